//! Distinguished names as text, in the order of the certificate: `CN=orders, O=Example`.
//!
//! Values have the escapes of RFC 4514 §2.4, so that a comma in one does not read as a second attribute.
//! Nothing is decided by such a text: rules and comparisons that matter go by the encoding.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, BmpString, Tag, ToDer};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A name; empty where it has no attribute.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    for relative in name.iter() {
        for (at, attribute) in relative.iter().enumerate() {
            match (out.is_empty(), at) {
                (true, _) => {}
                (false, 0) => out.push_str(", "),
                (false, _) => out.push_str(" + "),
            }
            push(&mut out, attribute);
        }
    }
    out
}

fn push(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok(short) => out.push_str(short),
        Err(_) => drop(write!(out, "{}", attribute.attr_type())),
    }
    out.push('=');
    match string(attribute.attr_value()) {
        Some(value) => push_escaped(out, &value),
        None => push_hex(out, attribute.attr_value()),
    }
}

/// The value, where it is a string that can be read.
fn string(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::NumericString
        | Tag::VisibleString
        | Tag::PrintableString
        | Tag::GeneralString
        | Tag::GraphicString
        | Tag::T61String
        | Tag::Utf8String
        | Tag::Ia5String => std::str::from_utf8(value.data).ok().map(str::to_owned),
        Tag::BmpString => BmpString::try_from(value.clone()).ok().map(|text| text.string()),
        _ => None,
    }
}

fn push_escaped(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let is_special = match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if is_special {
            out.push('\\');
        }
        match character {
            '\0' => out.push_str("\\00"),
            other => out.push(other),
        }
    }
}

/// What is no string: its encoding (RFC 4514 §2.4).
fn push_hex(out: &mut String, value: &Any<'_>) {
    out.push('#');
    for byte in value.to_der_vec().unwrap_or_else(|_| value.data.to_vec()) {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    /// A name of relative names, each of attributes: OID 2.5.4.`.0`, the tag and the bytes of the value.
    fn shown(name: &[&[(u8, u8, &[u8])]]) -> String {
        let wrapped = |tag: u8, inside: Vec<u8>| {
            let length = u8::try_from(inside.len()).ok().filter(|length| *length < 128).unwrap();
            [&[tag, length][..], &inside].concat()
        };
        let attribute = |(kind, tag, value): &(u8, u8, &[u8])| {
            let oid = vec![0x06, 3, 0x55, 0x04, *kind];
            wrapped(0x30, [oid, wrapped(*tag, value.to_vec())].concat())
        };
        let relative = |all: &&[(u8, u8, &[u8])]| {
            wrapped(0x31, all.iter().map(attribute).collect::<Vec<_>>().concat())
        };
        let der = wrapped(0x30, name.iter().map(relative).collect::<Vec<_>>().concat());
        text(&X509Name::from_der(&der).unwrap().1)
    }

    const CN: u8 = 3;
    const O: u8 = 10;
    const UTF8: u8 = 12;

    #[test]
    fn attributes_come_in_the_order_of_the_certificate() {
        assert_eq!(shown(&[]), "");
        let name = [&[(CN, UTF8, &b"orders"[..])][..], &[(O, 19, b"Example")]];
        assert_eq!(shown(&name), "CN=orders, O=Example");
        let both = [&[(CN, UTF8, &b"a"[..]), (O, UTF8, b"b")][..], &[(99, UTF8, b"c")]];
        assert_eq!(shown(&both), "CN=a + O=b, 2.5.4.99=c");
    }

    #[test] // threat 48
    fn a_value_does_not_read_as_attributes() {
        for (value, escaped) in [
            ("orders, O=Admins", r"CN=orders\, O=Admins"),
            ("a + O=b", r"CN=a \+ O=b"),
            (r#"\,;<>""#, r#"CN=\\\,\;\<\>\""#),
            (" # ", r"CN=\ #\ "),
            ("#1", r"CN=\#1"),
            (" ", r"CN=\ "),
            ("a\0b", r"CN=a\00b"),
            ("größer = gut", "CN=größer = gut"),
            ("", "CN="),
        ] {
            assert_eq!(shown(&[&[(CN, UTF8, value.as_bytes())]]), escaped);
        }
    }

    #[test]
    fn what_is_no_readable_string_is_its_encoding() {
        assert_eq!(shown(&[&[(CN, 2, &[7])]]), "CN=#020107");
        assert_eq!(shown(&[&[(CN, UTF8, &[0xff])]]), "CN=#0c01ff");
        assert_eq!(shown(&[&[(CN, 30, &[0, b'a', 0, b','])]]), r"CN=a\,");
    }
}

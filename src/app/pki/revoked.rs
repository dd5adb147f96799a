//! What a CA has revoked: the record beside it, from which each revocation list is made.
//!
//! It only grows, and so does the number of the list. `crl` reads it, adds to it and writes it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PkiError;
use super::certificate::hex;

/// The record as its file holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Of the last list that was made of it (RFC 5280 §5.2.3).
    pub(super) number: u32,
    #[serde(default)]
    pub(super) revoked: Vec<Revocation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    pub(super) serial: Serial,
    /// Seconds since 1970.
    #[serde(deserialize_with = "moment")]
    pub(super) at: u64,
    /// What the certificate was called when it was revoked, for people.
    pub(super) name: String,
}

/// The serial number of a certificate, without zeros at its front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Serial(Vec<u8>);

impl Record {
    /// `None` when there is no such file.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, PkiError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PkiError::Read { path: path.to_owned(), source }),
        };
        let record = toml::from_str(&text);
        record.map(Some).map_err(|source| PkiError::BadRecord { path: path.to_owned(), source })
    }

    pub(super) fn to_text(&self) -> Result<String, PkiError> {
        Ok(format!("{HEADER}{}", toml::to_string(self)?))
    }

    /// Whether it was not there yet.
    pub(super) fn add(&mut self, revocation: Revocation) -> bool {
        let is_new = self.revoked.iter().all(|earlier| earlier.serial != revocation.serial);
        if is_new {
            self.revoked.push(revocation);
        }
        is_new
    }
}

impl Serial {
    /// `None` where it is longer than RFC 5280 §4.1.2.2 allows, or zero.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let leading = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[leading..];
        (1..=SERIAL_BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// Hexadecimal as people write it: in either case, with colons or without, after `0x` or not.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
        let digits: String = digits.chars().filter(|c| *c != ':').collect();
        if digits.len() > TEXT_MAX || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
        let byte = |at: usize| u8::from_str_radix(&even[at..at + 2], 16).ok();
        let bytes: Option<Vec<_>> = (0..even.len()).step_by(2).map(byte).collect();
        Self::new(&bytes?)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        hex(&serial.0)
    }
}

impl TryFrom<String> for Serial {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a serial number is at most 20 bytes in hexadecimal and not zero")
    }
}

fn moment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let at = u64::deserialize(deserializer)?;
    if at <= LAST_MOMENT {
        return Ok(at);
    }
    Err(serde::de::Error::custom("this is after the year 9999"))
}

const HEADER: &str = "\
# What `portcullis pki crl` revoked, and the number of the last list. Keep it: every list is made from it.
";
const SERIAL_BYTES_MAX: usize = 20;
/// Room for zeros at the front.
const TEXT_MAX: usize = 64;
/// 9999-12-31 23:59:59, the last moment that a revocation list can tell.
const LAST_MOMENT: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn revocation(serial: &str) -> Revocation {
        Revocation { serial: Serial::parse(serial).unwrap(), at: 1, name: "alice".to_owned() }
    }

    #[test]
    fn serials_are_read_as_people_write_them() {
        for text in ["0xab0c", "AB:0C", "ab0c", "00ab0c", "00:AB:0C", "0XAB0C"] {
            assert_eq!(Serial::parse(text).unwrap().as_bytes(), [0xab, 0x0c], "{text}");
        }
        assert_eq!(Serial::parse("abc").unwrap().as_bytes(), [0x0a, 0xbc]);
        let long = "01".repeat(21);
        for wrong in ["", "0x", "0", "00:00", "xyz", "é1", "-1", &long] {
            assert_eq!(Serial::parse(wrong), None, "{wrong}");
        }
        Serial::parse(&"ff".repeat(20)).unwrap();
    }

    #[test]
    fn what_is_revoked_twice_stands_there_once() {
        let mut record = Record::default();
        assert!(record.add(revocation("0x01")));
        assert!(record.add(revocation("0x02")));
        assert!(!record.add(revocation("0001")));
        assert_eq!(record.revoked.len(), 2);
    }

    #[test]
    fn a_record_that_was_tampered_with_is_refused() {
        for wrong in [
            "number = -1",
            "revoked = []",
            "number = 1\nmore = 2",
            "number = 1\n[[revoked]]\nserial = \"\"\nat = 1\nname = \"\"",
            "number = 1\n[[revoked]]\nserial = \"01\"\nat = 253402300800\nname = \"\"",
            "number = 1\n[[revoked]]\nserial = \"01\"\nat = 1",
        ] {
            toml::from_str::<Record>(wrong).expect_err(wrong);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_serial_or_not(text in ".{0,80}") {
            if let Some(serial) = Serial::parse(&text) {
                prop_assert_eq!(Serial::parse(&String::from(serial.clone())), Some(serial));
            }
        }

        #[test]
        fn a_record_comes_back_from_its_text(
            number: u32,
            serials in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..20), ".{0,20}"), 0..5),
        ) {
            let revoked = serials.iter().filter_map(|(bytes, name)| {
                Some(Revocation { serial: Serial::new(bytes)?, at: 7, name: name.clone() })
            });
            let record = Record { number, revoked: revoked.collect() };
            prop_assert_eq!(toml::from_str::<Record>(&record.to_text().unwrap()), Ok(record));
        }
    }
}

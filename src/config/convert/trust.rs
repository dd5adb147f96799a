//! Whom to believe: anchors, revocation, and what is asked of a leaf.
//!
//! Names files and never opens them. Next: `identity`, for rules about names.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::super::error::{Location, Problems};
use super::super::node::{At, Entry};
use super::super::plan::{FileRef, OnChange, Revocation, RevocationCheck, Trust, Uncertain};
use super::super::raw::{RawRevocation, RawTrust};
use super::super::suggest;
use super::{all, any_of, choice, file, filled, identity, number, required};
use crate::core::trust::{KeyRule, KeyRuleError, LeafPolicy, Mode, Pin, PinError};

type Strings = At<Vec<At<String>>>;

pub(super) fn trust(entry: &Entry<RawTrust>, problems: &mut Problems) -> Option<Trust> {
    let raw = &entry.value;
    let example = ("anchors", "[\"pki/ca.crt\"]");
    let anchors = required(raw.anchors.as_ref(), &entry.at, example, problems)
        .and_then(|written| filled(written, example, problems))
        .and_then(|written| all(written, |path| file(path, problems)));
    let crls = files(raw.crls.as_ref(), problems);
    let revocation = revocation(entry, problems);
    let depth_max = number(raw.depth_max.as_ref(), DEPTH_MAX, 0..=DEPTH_MAX, problems);
    let leaf = leaf(raw, problems);
    let mode = choice(raw.mode.as_ref(), Mode::Enforce, MODES, problems);
    let on_change = choice(raw.on_change.as_ref(), OnChange::Keep, ON_CHANGE, problems);
    Some(Trust {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        anchors: anchors?,
        crls: crls?,
        revocation: revocation?,
        depth_max: depth_max?,
        leaf: leaf?,
        mode: mode?,
        on_change: on_change?,
    })
}

fn files(written: Option<&Strings>, problems: &mut Problems) -> Option<Vec<FileRef>> {
    all(elements(written), |path| file(path, problems))
}

/// Checked where there are lists, unless it says otherwise; never half.
fn revocation(entry: &Entry<RawTrust>, problems: &mut Problems) -> Option<Revocation> {
    let raw = &entry.value;
    let has_lists = !elements(raw.crls.as_ref()).is_empty();
    let crls_at = entry.at.child("crls");
    // A list that could not be read has its own problem.
    let is_unread = problems.is_excused(&crls_at.key);
    let table = raw.revocation.as_ref().map(|table| &table.value);
    let key = |of: fn(&RawRevocation) -> Option<&At<String>>| table.and_then(of);
    let (check_at, unknown_at, stale_at) = (
        key(|table| table.check.as_ref()),
        key(|table| table.unknown.as_ref()),
        key(|table| table.stale.as_ref()),
    );
    let default = if has_lists { RevocationCheck::Chain } else { RevocationCheck::Off };
    let check = choice(check_at, default, CHECKS, problems);
    let unknown = choice(unknown_at, Uncertain::Refuse, UNCERTAIN, problems);
    let stale = choice(stale_at, Uncertain::Refuse, UNCERTAIN, problems);
    let (check, unknown, stale) = (check?, unknown?, stale?);
    let is_off = check == RevocationCheck::Off;
    match check_at {
        Some(written) if is_off && has_lists => {
            let help = "leave crls out, or write check = \"chain\"";
            problems.add(written.at.clone(), "\"off\", and there are crls", help);
            return None;
        }
        Some(written) if !is_off && !has_lists && !is_unread => {
            let message = format!("{:?}, and there are no crls", written.value);
            let help = "write crls = [\"pki/ca.crl\"], or check = \"off\"";
            problems.add(written.at.clone(), message, help);
            return None;
        }
        Some(_) | None => {}
    }
    if let Some(written) = unknown_at.or(stale_at).filter(|_| is_off && !is_unread) {
        let help = match has_lists {
            true => "leave this key out, or write check = \"chain\"",
            false => "leave this key out, or write crls = [\"pki/ca.crl\"]",
        };
        problems.add(written.at.clone(), "revocation is not checked here", help);
        return None;
    }
    Some(Revocation { check, unknown, stale })
}

fn leaf(raw: &RawTrust, problems: &mut Problems) -> Option<LeafPolicy> {
    let keys = match &raw.client_keys {
        None => Some(KeyRule::DEFAULT.to_vec()),
        Some(written) => {
            let example = KeyRule::DEFAULT.map(|rule| format!("{:?}", rule.to_string())).join(", ");
            filled(written, ("client_keys", &format!("[{example}]")), problems)
                .and_then(|list| parsed(list, key_help, problems))
        }
    };
    let pins = parsed(elements(raw.pins.as_ref()), pin_help, problems);
    let san = identity::names(raw.san.as_ref(), problems);
    Some(LeafPolicy { keys: keys?, pins: pins?, san: san? })
}

fn elements(written: Option<&Strings>) -> &[At<String>] {
    written.map_or(&[], |written| &written.value)
}

/// What the texts stand for, each once.
fn parsed<T: FromStr + fmt::Display>(
    list: &[At<String>],
    help: fn(&str, &T::Err) -> String,
    problems: &mut Problems,
) -> Option<Vec<T>>
where
    T::Err: fmt::Display,
{
    let mut seen = BTreeSet::new();
    all(list, |element| {
        let (text, at): (&str, &Location) = (&element.value, &element.at);
        let value: T = match text.parse() {
            Ok(value) => value,
            Err(error) => {
                problems.add(at.clone(), format!("{text:?}: {error}"), help(text, &error));
                return None;
            }
        };
        if !seen.insert(value.to_string()) {
            problems.add(at.clone(), format!("{text:?} is in this list already"), "");
            return None;
        }
        Some(value)
    })
}

fn key_help(text: &str, error: &KeyRuleError) -> String {
    match error {
        KeyRuleError::Unknown => match suggest::nearest(text, KEY_KINDS) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write {}", any_of(KEY_KINDS)),
        },
        KeyRuleError::RsaForm | KeyRuleError::RsaBits { .. } => {
            "write \"rsa-2048-4096\" for lengths from 2048 to 4096 bits".to_owned()
        }
        KeyRuleError::RsaUpsideDown { min, max } => format!("did you mean \"rsa-{max}-{min}\"?"),
    }
}

fn pin_help(text: &str, error: &PinError) -> String {
    let digits = text.split_once([':', '=']).map(|(_, digits)| digits);
    match error {
        PinError::Hex(_) if digits.is_some_and(|digits| digits.parse::<Pin>().is_ok()) => {
            format!("write the digits only: \"{}\"", digits.unwrap_or_default())
        }
        PinError::Digits { digits: 40 } => {
            "a SHA-1 digest has 40 digits: take SHA-256, as openssl x509 -fingerprint -sha256 does"
                .to_owned()
        }
        PinError::Digits { .. } | PinError::Hex(_) | PinError::Base64 => {
            "write 64 hexadecimal digits, or \"sha256/\" and base64: the SHA-256 of the certificate \
             or of its key"
                .to_owned()
        }
    }
}

/// What webpki follows at most.
const DEPTH_MAX: u8 = 6;

const KEY_KINDS: &[&str] = &["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048-4096"];

pub(super) const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("audit", Mode::Audit)];

const CHECKS: &[(&str, RevocationCheck)] = &[
    ("chain", RevocationCheck::Chain),
    ("leaf", RevocationCheck::Leaf),
    ("off", RevocationCheck::Off),
];

const UNCERTAIN: &[(&str, Uncertain)] =
    &[("refuse", Uncertain::Refuse), ("accept", Uncertain::Accept)];

const ON_CHANGE: &[(&str, OnChange)] =
    &[("keep", OnChange::Keep), ("drain", OnChange::Drain), ("close", OnChange::Close)];

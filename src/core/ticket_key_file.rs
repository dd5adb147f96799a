//! Ticket keys in the files of nginx and HAProxy: 48 or 80 raw bytes, or a list of such in base64.
//!
//! The bytes become keys of our own by HKDF, so a file can serve nginx, HAProxy and this gateway, and
//! none opens the tickets of another. Opens no file. `tls::stek` decides which key seals.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::ticket_ring::TicketKey;
use super::ticket_secret::{Weakness, extract};

/// The keys of one file, in its order.
#[derive(Debug)]
pub struct KeyFile {
    pub format: KeyFormat,
    /// Not empty.
    pub keys: Vec<FileKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// `ssl_session_ticket_key` of nginx: one key, raw.
    Nginx,
    /// `tls-ticket-keys` of HAProxy: a line a key, in base64, the newest last.
    Haproxy,
}

/// One key, and the line that it stands on; 0 in a raw file.
pub struct FileKey {
    pub line: usize,
    pub key: TicketKey,
}

/// What is wrong with a key file, said after its path. No message holds what the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    #[error("is empty")]
    Empty,
    #[error("is {0} bytes long, and neither a raw key of 48 or 80 bytes nor lines of base64")]
    Length(usize),
    #[error("holds PEM, not a ticket key")]
    Pem,
    #[error("holds roots, not keys")]
    Roots,
    #[error("holds no random key: {0}")]
    Weak(Weakness),
    #[error("line {line} is not base64")]
    NotBase64 { line: usize },
    #[error("line {line} holds {length} bytes, and a key has 48 or 80")]
    LineLength { line: usize, length: usize },
    #[error("line {line} holds no random key: {weakness}")]
    WeakLine { line: usize, weakness: Weakness },
    #[error("holds more than {KEYS_MAX} keys")]
    TooMany,
}

impl KeyFile {
    /// What a file holds.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(file: &[u8]) -> Result<KeyFile, KeyFileError> {
        if LENGTHS.contains(&file.len()) {
            let key = key(file).map_err(KeyFileError::Weak)?;
            return Ok(KeyFile { format: KeyFormat::Nginx, keys: vec![FileKey { line: 0, key }] });
        }
        if file.trim_ascii().is_empty() {
            return Err(KeyFileError::Empty);
        }
        if file.starts_with(b"# portcullis stek root") {
            return Err(KeyFileError::Roots);
        }
        if file.windows(10).any(|window| window == b"-----BEGIN") {
            return Err(KeyFileError::Pem);
        }
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        if !file.iter().all(is_text) {
            return Err(KeyFileError::Length(file.len()));
        }
        let mut keys = Vec::new();
        for (text, line) in file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).zip(1..) {
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyFileError::TooMany);
            }
            keys.push(FileKey { line, key: line_key(text, line)? });
        }
        if keys.is_empty() {
            return Err(KeyFileError::Empty);
        }
        Ok(KeyFile { format: KeyFormat::Haproxy, keys })
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey(line {}, secret withheld)", self.line)
    }
}

fn line_key(text: &[u8], line: usize) -> Result<TicketKey, KeyFileError> {
    // More than the longest key; what does not fit is no key.
    let mut decoded = Zeroizing::new([0; DECODED_BYTES_MAX]);
    let length = match STANDARD.decode_slice(text, &mut *decoded) {
        Ok(length) => length,
        Err(base64::DecodeSliceError::OutputSliceTooSmall) => text.len() / 4 * 3,
        Err(base64::DecodeSliceError::DecodeError(_)) => {
            return Err(KeyFileError::NotBase64 { line });
        }
    };
    if !LENGTHS.contains(&length) {
        return Err(KeyFileError::LineLength { line, length });
    }
    key(&decoded[..length]).map_err(|weakness| KeyFileError::WeakLine { line, weakness })
}

/// A name of 16 bytes, then two secrets of the same length: all of it goes into the key and its id.
fn key(bytes: &[u8]) -> Result<TicketKey, Weakness> {
    let (_, secrets) = bytes.split_at(NAME_BYTES.min(bytes.len()));
    let (first, second) = secrets.split_at(secrets.len() / 2);
    let whole = Some(Weakness::Text).filter(|_| Weakness::of(bytes) == Some(Weakness::Text));
    let weak = whole.or_else(|| [secrets, first, second].into_iter().find_map(Weakness::of));
    match weak {
        Some(weakness) => Err(weakness),
        None => Ok(TicketKey::expand(&extract(b"portcullis stek file 1", bytes), 0, &[])),
    }
}

/// For AES-128 and for AES-256.
const LENGTHS: [usize; 2] = [48, 80];
const NAME_BYTES: usize = 16;
const DECODED_BYTES_MAX: usize = 96;
/// A key a day for two months; `find` looks at each key's id.
pub const KEYS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at * at * 73 + at * 5) % 256).unwrap()).collect()
    }

    fn random(seed: u8, length: usize) -> Vec<u8> {
        let mix = |at: usize| at.wrapping_mul(0x9E37_79B9).wrapping_add(usize::from(seed) << 9);
        let byte = |at| u8::try_from(mix(at).wrapping_mul(0x85EB_CA6B) >> 13 & 0xff).unwrap();
        (0..length).map(byte).collect()
    }

    fn list(keys: &[Vec<u8>]) -> String {
        keys.iter().map(|key| STANDARD.encode(key) + "\n").collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed with Python's `hmac` from the words of this file and RFC 5869.
    #[test]
    fn keys_are_the_known_ones() {
        for (length, id, secret) in KNOWN {
            let file = KeyFile::parse(&raw(length)).unwrap();
            assert_eq!(file.format, KeyFormat::Nginx);
            let key = &file.keys[0].key;
            assert_eq!((hex(key.id()).as_str(), hex(key.secret()).as_str()), (id, secret));
        }
    }

    #[test]
    fn a_key_is_the_same_in_either_format() {
        for length in LENGTHS {
            let keys = [random(1, length), random(2, length), random(3, length)];
            let text = format!("# made by cron\n\n{}", list(&keys));
            let file = KeyFile::parse(text.as_bytes()).unwrap();
            assert_eq!(file.format, KeyFormat::Haproxy);
            for (at, (found, raw)) in file.keys.iter().zip(&keys).enumerate() {
                let nginx = KeyFile::parse(raw).unwrap();
                assert_eq!(found.key.id(), nginx.keys[0].key.id());
                assert_eq!(found.key.secret(), nginx.keys[0].key.secret());
                assert_eq!(found.line, at + 3);
            }
            let crlf = text.replace('\n', "\r\n");
            assert_eq!(KeyFile::parse(crlf.trim_end().as_bytes()).unwrap().keys.len(), 3);
        }
    }

    // threat 21
    #[test]
    fn files_that_are_not_sound_are_told_apart() {
        let good = STANDARD.encode(random(1, 80));
        let parts =
            |name: u8, first: &[u8], second: &[u8]| [&random(name, 16)[..], first, second].concat();
        let half = random(9, 16);
        let cases: Vec<(Vec<u8>, KeyFileError)> = vec![
            (vec![], KeyFileError::Empty),
            (b"\n \n".to_vec(), KeyFileError::Empty),
            (b"# only words\n".to_vec(), KeyFileError::Empty),
            (random(1, 47), KeyFileError::Length(47)),
            (random(1, 64), KeyFileError::Length(64)),
            ([random(1, 80), b"\n".to_vec()].concat(), KeyFileError::Length(81)),
            (vec![0; 48], KeyFileError::Weak(Weakness::Zero)),
            (vec![0xff; 80], KeyFileError::Weak(Weakness::Constant)),
            (vec![b'a'; 48], KeyFileError::Weak(Weakness::Constant)),
            ((0..80).collect(), KeyFileError::Weak(Weakness::Counting)),
            (parts(1, &[0; 16], &[0; 16]), KeyFileError::Weak(Weakness::Zero)),
            (parts(1, &[0; 16], &half), KeyFileError::Weak(Weakness::Zero)),
            (parts(1, &half, &[0; 16]), KeyFileError::Weak(Weakness::Zero)),
            (parts(1, &half, &half), KeyFileError::Weak(Weakness::Repeated)),
            (hex(&random(1, 24)).into_bytes(), KeyFileError::Weak(Weakness::Text)),
            (hex(&random(1, 40)).into_bytes(), KeyFileError::Weak(Weakness::Text)),
            (b"-----BEGIN PRIVATE KEY-----\nMIG".to_vec(), KeyFileError::Pem),
            (b"# portcullis stek root 1\n".to_vec(), KeyFileError::Roots),
            (format!("{good}\n?\n").into_bytes(), KeyFileError::NotBase64 { line: 2 }),
            (
                format!("{good}\n{}\n", STANDARD.encode(random(2, 47))).into_bytes(),
                KeyFileError::LineLength { line: 2, length: 47 },
            ),
            (
                format!("\n{}\n", STANDARD.encode(random(2, 300))).into_bytes(),
                KeyFileError::LineLength { line: 2, length: 300 },
            ),
            (
                format!("{good}\n{}\n", STANDARD.encode([0; 48])).into_bytes(),
                KeyFileError::WeakLine { line: 2, weakness: Weakness::Zero },
            ),
            (
                list(&(0..65).map(|seed| random(seed, 48)).collect::<Vec<_>>()).into_bytes(),
                KeyFileError::TooMany,
            ),
        ];
        for (bytes, error) in cases {
            let found = KeyFile::parse(&bytes).unwrap_err();
            assert_eq!(found, error, "{}", String::from_utf8_lossy(&bytes));
            assert!(!found.to_string().contains(&good[..8]), "{found}");
        }
    }

    // threat 46
    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", KeyFile::parse(&raw(48)).unwrap());
        assert!(shown.contains("FileKey(line 0, secret withheld)"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", raw(48)[20])), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_keys_or_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            match KeyFile::parse(&bytes) {
                Ok(file) => prop_assert!(!file.keys.is_empty()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn any_text_is_keys_or_a_mistake(text in "[A-Za-z0-9+/=#\n ]{0,400}") {
            if let Ok(file) = KeyFile::parse(text.as_bytes()) {
                prop_assert!(!file.keys.is_empty() && file.keys.len() <= KEYS_MAX);
            }
        }

        #[test]
        fn every_byte_of_a_file_counts(at in 0..80usize, bit in 0..8u32) {
            let bytes = random(1, 80);
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            let [one, two] = [bytes, other].map(|bytes| KeyFile::parse(&bytes).unwrap());
            prop_assert_ne!(one.keys[0].key.id(), two.keys[0].key.id());
            prop_assert_ne!(one.keys[0].key.secret(), two.keys[0].key.secret());
        }
    }

    const KNOWN: [(usize, &str, &str); 2] = [
        (
            48,
            "76657ef25b009e998c8578da5ea09347",
            "c8d2f296f2f4ebf43c342fdd27099670862c8588465996bddd4790ff1d178b0e",
        ),
        (
            80,
            "b52a101d7a222ba4f45978aaf6b2b039",
            "f2e67642414f63bb5fca0c72f97e6c33db8394891c7e3b536c9395e96c050e88",
        ),
    ];
}

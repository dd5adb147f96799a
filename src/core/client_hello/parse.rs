//! Reads the body of a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2), strictly.
//!
//! Every length must add up, also in extensions that nobody here asks for: what rustls or an
//! upstream would parse must parse, or the hello that chose the chain is not the one they see.
//! Never allocates; bounded by the length of the message. `hello` holds the result.

use super::HOST_NAME;
use super::hello::{ClientHello, U16List};
use super::reject::Malformed;

/// Browsers send about 18, the most talkative scanners some 40.
pub(super) const EXTENSIONS_MAX: usize = 64;

/// Clients offer one or two. Each costs a look-up of its key, so a hello with hundreds is an attack.
pub(super) const PSK_IDENTITIES_MAX: usize = 32;

/// The hello, and the name as it was sent: without `server_name` and `wire_len`, which `peek` adds.
pub(super) fn client_hello(body: &[u8]) -> Result<(ClientHello<'_>, Option<&[u8]>), Malformed> {
    let mut reader = Reader::new(body, "client_hello");
    let legacy_version = reader.u16()?;
    // What is above TLS 1.2 is answered with the highest version that exists here (RFC 5246 appendix E.1,
    // RFC 8446 §4.2.1). SSL 3.0 and older end the handshake, whatever supported_versions says
    // (RFC 8446 appendix D.5).
    if legacy_version <= SSL30 {
        return Err(Malformed::LegacyVersion { version: legacy_version });
    }
    let random = reader.array()?;
    let session_id = reader.vec8("legacy_session_id", 0)?;
    if session_id.len() > 32 {
        return Err(Malformed::Long { field: "legacy_session_id", bytes: session_id.len() - 32 });
    }
    let cipher_suites = u16_list(reader.vec16("cipher_suites", 2)?, "cipher_suites")?;
    let compression_methods = reader.vec8("legacy_compression_methods", 1)?;
    if !compression_methods.contains(&0) {
        return Err(Malformed::NoNullCompression);
    }
    let mut hello = ClientHello {
        wire_len: 0,
        server_name: None,
        legacy_version,
        random,
        session_id,
        cipher_suites,
        compression_methods,
        extensions: &[],
        supported_versions: U16List::default(),
        supported_groups: U16List::default(),
        signature_schemes: U16List::default(),
        key_shares: &[],
        alpn: &[],
        psk_identities: 0,
        session_ticket_len: 0,
        has_early_data: false,
        has_ech: false,
        takes_raw_keys_only: false,
        max_fragment_length: None,
        record_size_limit: None,
    };
    // TLS 1.2 clients may leave out the list with its length.
    let name = if reader.is_empty() { None } else { extensions(&mut reader, &mut hello)? };
    reader.end()?;
    Ok((hello, name))
}

fn extensions<'a>(
    reader: &mut Reader<'a>,
    hello: &mut ClientHello<'a>,
) -> Result<Option<&'a [u8]>, Malformed> {
    hello.extensions = reader.vec16("extensions", 0)?;
    let mut list = Reader::new(hello.extensions, "extensions");
    let mut seen = Seen::default();
    let mut name = None;
    while !list.is_empty() {
        let kind = list.u16()?;
        let body = list.vec16("extension_data", 0)?;
        seen.insert(kind)?;
        if kind == PRE_SHARED_KEY && !list.is_empty() {
            return Err(Malformed::PreSharedKeyNotLast);
        }
        if kind == SERVER_NAME {
            name = Some(host_name(body)?);
        } else {
            extension(kind, body, hello)?;
        }
    }
    Ok(name)
}

fn extension<'a>(kind: u16, body: &'a [u8], hello: &mut ClientHello<'a>) -> Result<(), Malformed> {
    let only_u16_list = |field| u16_list(only_vec16(body, field, 2)?, field);
    match kind {
        STATUS_REQUEST => status_request(body)?,
        SUPPORTED_GROUPS => hello.supported_groups = only_u16_list("supported_groups")?,
        SIGNATURE_ALGORITHMS => hello.signature_schemes = only_u16_list("signature_algorithms")?,
        SUPPORTED_VERSIONS => {
            let list = only_vec8(body, "supported_versions")?;
            hello.supported_versions = u16_list(list, "supported_versions")?;
        }
        ALPN => {
            let list = only_vec16(body, "protocol_name_list", 2)?;
            each(list, "protocol_name_list", |names| names.vec8("protocol_name", 1).map(drop))?;
            hello.alpn = list;
        }
        KEY_SHARE => {
            let list = only_vec16(body, "client_shares", 0)?;
            each(list, "client_shares", |shares| {
                shares.u16()?;
                shares.vec16("key_exchange", 1).map(drop)
            })?;
            hello.key_shares = list;
        }
        PRE_SHARED_KEY => hello.psk_identities = pre_shared_key(body)?,
        CLIENT_CERTIFICATE_TYPE | SERVER_CERTIFICATE_TYPE => {
            let types = only_vec8(body, "certificate_types")?;
            hello.takes_raw_keys_only |= types.contains(&RAW_KEY) && !types.contains(&X509);
        }
        MAX_FRAGMENT_LENGTH => {
            let &[power] = only(body, "max_fragment_length")?;
            hello.max_fragment_length = Some(power);
        }
        RECORD_SIZE_LIMIT => {
            let limit = only(body, "record_size_limit")?;
            hello.record_size_limit = Some(u16::from_be_bytes(*limit));
        }
        SESSION_TICKET => hello.session_ticket_len = body.len(),
        EARLY_DATA => {
            Reader::new(body, "early_data").end()?;
            hello.has_early_data = true;
        }
        ENCRYPTED_CLIENT_HELLO => {
            encrypted_client_hello(body)?;
            hello.has_ech = true;
        }
        // It belongs into the encrypted inner hello (RFC 9849 §5.1).
        ECH_OUTER_EXTENSIONS => return Err(Malformed::ForbiddenExtension { kind }),
        _ => unused_extension(kind, body)?,
    }
    Ok(())
}

/// Extensions whose content nobody here asks for. rustls parses them, but for signature_algorithms_cert.
fn unused_extension(kind: u16, body: &[u8]) -> Result<(), Malformed> {
    match kind {
        EC_POINT_FORMATS => only_vec8(body, "ec_point_formats").map(drop),
        PSK_KEY_EXCHANGE_MODES => only_vec8(body, "psk_key_exchange_modes").map(drop),
        // What may sign certificates, where the handshake may be signed by something else (RFC 8446 §4.2.3).
        SIGNATURE_ALGORITHMS_CERT => {
            let field = "signature_algorithms_cert";
            u16_list(only_vec16(body, field, 2)?, field).map(drop)
        }
        EXTENDED_MASTER_SECRET => Reader::new(body, "extended_master_secret").end(),
        COMPRESS_CERTIFICATE => {
            let list = only_vec8(body, "compress_certificate")?;
            u16_list(list, "compress_certificate").map(drop)
        }
        COOKIE => only_vec16(body, "cookie", 1).map(drop),
        CERTIFICATE_AUTHORITIES => {
            let list = only_vec16(body, "certificate_authorities", 3)?;
            each(list, "certificate_authorities", |names| {
                names.vec16("distinguished_name", 1).map(drop)
            })
        }
        TICKET_REQUEST => {
            let mut reader = Reader::new(body, "ticket_request");
            reader.u16()?;
            reader.end()
        }
        RENEGOTIATION_INFO => {
            let mut reader = Reader::new(body, "renegotiation_info");
            let proof = reader.vec8("renegotiation_info", 0)?;
            reader.end()?;
            // It proves that an earlier handshake was the client's; this is the first.
            if proof.is_empty() {
                Ok(())
            } else {
                Err(Malformed::Renegotiation { bytes: proof.len() })
            }
        }
        _ => Ok(()),
    }
}

/// Exactly one host_name (RFC 6066 §3). Types other than host_name were never defined, and what
/// follows one could not be skipped.
fn host_name(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut list = Reader::new(only_vec16(body, "server_name_list", 1)?, "server_name_list");
    let kind = list.u8()?;
    if kind != 0 {
        return Err(Malformed::NameType { kind });
    }
    let name = list.vec16(HOST_NAME, 1)?;
    if list.is_empty() { Ok(name) } else { Err(Malformed::SeveralNames) }
}

/// RFC 6066 §8; other types than OCSP have a form of their own.
fn status_request(body: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(body, "status_request");
    if reader.u8()? != 1 {
        return Ok(());
    }
    let responders = reader.vec16("responder_id_list", 0)?;
    each(responders, "responder_id_list", |ids| ids.vec16("responder_id", 0).map(drop))?;
    reader.vec16("request_extensions", 0)?;
    reader.end()
}

/// RFC 8446 §4.2.11: as many binders as identities. Gives the number.
fn pre_shared_key(body: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(body, "pre_shared_key");
    let mut identities = 0;
    each(reader.vec16("identities", 7)?, "identities", |list| {
        identities += 1;
        list.vec16("identity", 1)?;
        list.take(4).map(drop)
    })?;
    let mut binders = 0;
    each(reader.vec16("binders", 33)?, "binders", |list| {
        binders += 1;
        list.vec8("binder", 32).map(drop)
    })?;
    reader.end()?;
    if identities > PSK_IDENTITIES_MAX {
        return Err(Malformed::TooManyPreSharedKeys);
    }
    if identities != binders {
        return Err(Malformed::BinderCount { identities, binders });
    }
    Ok(identities)
}

/// RFC 9849 §5: outer (0) with suite, config id, key and payload; inner (1) is empty.
fn encrypted_client_hello(body: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(body, "encrypted_client_hello");
    match reader.u8()? {
        0 => {
            reader.take(5)?;
            reader.vec16("enc", 0)?;
            reader.vec16("payload", 1)?;
        }
        1 => {}
        _ => return Err(Malformed::ForbiddenExtension { kind: ENCRYPTED_CLIENT_HELLO }),
    }
    reader.end()
}

/// A body of so many bytes.
fn only<'a, const N: usize>(body: &'a [u8], field: &'static str) -> Result<&'a [u8; N], Malformed> {
    let mut reader = Reader::new(body, field);
    let bytes = reader.array()?;
    reader.end().map(|()| bytes)
}

/// A body that is one list with a 16-bit length of `min` bytes or more.
fn only_vec16<'a>(body: &'a [u8], field: &'static str, min: usize) -> Result<&'a [u8], Malformed> {
    let mut reader = Reader::new(body, field);
    let list = reader.vec16(field, min)?;
    reader.end().map(|()| list)
}

/// A body that is one list with an 8-bit length of 1 byte or more.
fn only_vec8<'a>(body: &'a [u8], field: &'static str) -> Result<&'a [u8], Malformed> {
    let mut reader = Reader::new(body, field);
    let list = reader.vec8(field, 1)?;
    reader.end().map(|()| list)
}

fn u16_list<'a>(list: &'a [u8], field: &'static str) -> Result<U16List<'a>, Malformed> {
    if list.len().is_multiple_of(2) { Ok(U16List(list)) } else { Err(Malformed::Short { field }) }
}

/// Reads elements until the list is used up.
fn each<'a>(
    list: &'a [u8],
    field: &'static str,
    mut element: impl FnMut(&mut Reader<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(list, field);
    while !reader.is_empty() {
        element(&mut reader)?;
    }
    Ok(())
}

/// A cursor over one field; `field` is what the errors name.
struct Reader<'a> {
    left: &'a [u8],
    field: &'static str,
}

impl<'a> Reader<'a> {
    fn new(left: &'a [u8], field: &'static str) -> Self {
        Self { left, field }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, left) =
            self.left.split_at_checked(len).ok_or(Malformed::Short { field: self.field })?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, left) =
            self.left.split_first_chunk().ok_or(Malformed::Short { field: self.field })?;
        self.left = left;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|&[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(|&bytes| u16::from_be_bytes(bytes))
    }

    /// A field with an 8-bit length of `min` or more.
    fn vec8(&mut self, field: &'static str, min: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u8()?);
        self.vec(field, min, len)
    }

    /// A field with a 16-bit length of `min` or more.
    fn vec16(&mut self, field: &'static str, min: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        self.vec(field, min, len)
    }

    fn vec(&mut self, field: &'static str, min: usize, len: usize) -> Result<&'a [u8], Malformed> {
        match len {
            0 if min > 0 => Err(Malformed::Empty { field }),
            _ if len < min => Err(Malformed::Short { field }),
            _ => self.take(len),
        }
    }

    fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn end(self) -> Result<(), Malformed> {
        match self.left.len() {
            0 => Ok(()),
            bytes => Err(Malformed::Long { field: self.field, bytes }),
        }
    }
}

/// The extensions met so far. Bits for the low numbers, which nearly all are; a list for the rest.
struct Seen {
    low: u64,
    high: [u16; EXTENSIONS_MAX],
    high_len: usize,
    count: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { low: 0, high: [0; EXTENSIONS_MAX], high_len: 0, count: 0 }
    }
}

impl Seen {
    fn insert(&mut self, kind: u16) -> Result<(), Malformed> {
        if self.count == EXTENSIONS_MAX {
            return Err(Malformed::TooManyExtensions);
        }
        self.count += 1;
        if kind < 64 {
            let bit = 1 << kind;
            if self.low & bit != 0 {
                return Err(Malformed::DuplicateExtension { kind });
            }
            self.low |= bit;
            return Ok(());
        }
        if self.high[..self.high_len].contains(&kind) {
            return Err(Malformed::DuplicateExtension { kind });
        }
        self.high[self.high_len] = kind;
        self.high_len += 1;
        Ok(())
    }
}

// CertificateType, RFC 7250 §3.
const X509: u8 = 0;
const RAW_KEY: u8 = 2;

const SSL30: u16 = 0x0300;

// ExtensionType, in the IANA registry's numbers.
pub(super) const SERVER_NAME: u16 = 0;
const MAX_FRAGMENT_LENGTH: u16 = 1;
const STATUS_REQUEST: u16 = 5;
const SUPPORTED_GROUPS: u16 = 10;
const EC_POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const CLIENT_CERTIFICATE_TYPE: u16 = 19;
const SERVER_CERTIFICATE_TYPE: u16 = 20;
const EXTENDED_MASTER_SECRET: u16 = 23;
const COMPRESS_CERTIFICATE: u16 = 27;
const RECORD_SIZE_LIMIT: u16 = 28;
const SESSION_TICKET: u16 = 35;
pub(super) const PRE_SHARED_KEY: u16 = 41;
pub(super) const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
pub(super) const COOKIE: u16 = 44;
const PSK_KEY_EXCHANGE_MODES: u16 = 45;
const CERTIFICATE_AUTHORITIES: u16 = 47;
const SIGNATURE_ALGORITHMS_CERT: u16 = 50;
pub(super) const KEY_SHARE: u16 = 51;
const TICKET_REQUEST: u16 = 58;
const RENEGOTIATION_INFO: u16 = 0xff01;
const ECH_OUTER_EXTENSIONS: u16 = 0xfd00;
pub(super) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

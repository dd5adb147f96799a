//! One input, two readers: our peek and rustls' `Acceptor`. Panics where they may not differ.
//!
//! Shared by `tests/hello_differential.rs` and the fuzz target `hello`; `client_hello` is what is
//! under test.

use portcullis::core::client_hello::{
    ClientHello, HelloBuffer, Malformed, Peek, RejectReason, peek,
};
use rustls::server::{Accepted, Acceptor};
use rustls::{Error, PeerIncompatible};

/// What rustls makes of the input.
enum Theirs {
    Accepted(Box<Accepted>),
    Waiting,
    Failed(Error),
}

impl Theirs {
    fn error(self) -> Option<Error> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Accepted(_) | Self::Waiting => None,
        }
    }
}

/// Our answer, after rustls' was found to be compatible with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    Hello,
    NeedMore,
    Reject,
    /// Ours is stricter, for a reason that is on the list.
    OnlyTheirs(RejectReason),
}

/// Reads `input` with both.
///
/// # Panics
/// If we see a hello that rustls does not, or another one; if rustls accepts what we still wait
/// for or refuse for no documented reason.
pub(crate) fn compare(input: &[u8]) -> Agreed {
    let mut joined = HelloBuffer::new();
    match (peek(input, &mut joined), theirs(input)) {
        (Peek::Hello(ours), Theirs::Accepted(theirs)) => {
            same(&ours, &theirs);
            Agreed::Hello
        }
        // Not a matter of parsing: rustls signs with nothing it was not told, and an upstream
        // behind a chain without TLS may speak TLS 1.2 to clients that leave the list out.
        (Peek::Hello(ours), theirs) => {
            let expected = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
            assert_eq!(theirs.error(), Some(expected.into()), "only we see {ours:?}");
            assert_eq!(ours.signature_schemes().count(), 0);
            Agreed::Hello
        }
        (Peek::NeedMore { at_least }, theirs) => {
            assert!(at_least > input.len(), "need {at_least}, have {}", input.len());
            assert!(!matches!(theirs, Theirs::Accepted(_)), "we wait for {at_least}");
            Agreed::NeedMore
        }
        (Peek::Reject(reason), Theirs::Accepted(_)) => {
            assert!(is_stricter(reason), "only rustls accepts: {reason}");
            Agreed::OnlyTheirs(reason)
        }
        (Peek::Reject(_), Theirs::Waiting | Theirs::Failed(_)) => Agreed::Reject,
    }
}

fn theirs(mut input: &[u8]) -> Theirs {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => return Theirs::Accepted(Box::new(accepted)),
            Ok(None) if input.is_empty() => return Theirs::Waiting,
            Ok(None) => {}
            Err((error, _)) => return Theirs::Failed(error),
        }
        // Its buffer is full, at 64 KiB: it will not come to an answer.
        if acceptor.read_tls(&mut input).is_err() {
            return Theirs::Waiting;
        }
    }
}

fn same(ours: &ClientHello<'_>, theirs: &Accepted) {
    let theirs = theirs.client_hello();
    let is_grease = |value: u16| value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff;
    let name = theirs.server_name().map(str::to_ascii_lowercase);
    assert_eq!(ours.server_name(), name.as_deref(), "server_name");

    let alpn: Vec<&[u8]> = theirs.alpn().into_iter().flatten().collect();
    let mut alpn_without_grease = alpn.clone();
    alpn_without_grease
        .retain(|name| !matches!(name, [a, b] if is_grease(u16::from_be_bytes([*a, *b]))));
    assert_eq!(ours.alpn().collect::<Vec<_>>(), alpn_without_grease, "alpn");

    let suites = theirs.cipher_suites().iter().map(|&suite| u16::from(suite));
    assert!(ours.cipher_suites().eq(suites.filter(|&suite| !is_grease(suite))), "cipher_suites");
    let schemes = theirs.signature_schemes().iter().map(|&scheme| u16::from(scheme));
    assert!(
        ours.signature_schemes().eq(schemes.filter(|&scheme| !is_grease(scheme))),
        "signature_algorithms"
    );
    let groups = theirs.named_groups().unwrap_or_default().iter().map(|&group| u16::from(group));
    assert!(
        ours.supported_groups().eq(groups.filter(|&group| !is_grease(group))),
        "supported_groups"
    );
}

const UNKNOWN_TO_RUSTLS: [&str; 3] =
    ["signature_algorithms_cert", "max_fragment_length", "record_size_limit"];

/// The differences that are wanted: what we refuse and rustls' `Acceptor` lets through.
fn is_stricter(reason: RejectReason) -> bool {
    use Malformed::*;
    match reason {
        // A hello that rustls accepts must never count as another protocol: it could land in a
        // chain for plain text.
        RejectReason::NotTls { .. } => false,
        // Our caps are lower: rustls takes 64 KiB in any number of records.
        RejectReason::TooLarge { .. } | RejectReason::TooManyRecords => true,
        // rustls reads an IP address as no name and lets a trailing dot stand; we route by names.
        RejectReason::InvalidName { .. } => true,
        RejectReason::Malformed(fault) => match fault {
            // rustls knows the numbers of SSL 2.0 and DTLS for a record's version and takes them, and it
            // allows records 2 KiB over the limit of plain text.
            RecordVersion | RecordTooLong { .. } => true,
            // Judged later by rustls, once it picks a version or looks at the keys; SSL 3.0 not at all
            // beside supported_versions (RFC 8446 appendix D.5).
            LegacyVersion { .. } | BinderCount { .. } => true,
            // It skips what follows a name of another type.
            NameType { .. } | SeveralNames => true,
            // It ignores what there is to renegotiate.
            Renegotiation { .. } => true,
            // Our own bounds, and a list that only the inner hello may carry.
            TooManyExtensions | TooManyPreSharedKeys | ForbiddenExtension { .. } => true,
            // Lists that the RFCs want longer than rustls does: binders of 32 bytes, one
            // certificate authority.
            Short { field: "binder" | "binders" | "identities" | "certificate_authorities" } => {
                true
            }
            Empty { field: "certificate_authorities" } => true,
            // It does not parse these.
            Short { field } | Long { field, .. } | Empty { field }
                if UNKNOWN_TO_RUSTLS.contains(&field) =>
            {
                true
            }
            // Only rustls' parser of extensions could tell these apart from a good hello.
            OtherRecord { .. } | EmptyRecord | NotClientHello { .. } | MessageBehind { .. } => {
                false
            }
            Short { .. } | Long { .. } | Empty { .. } => false,
            NoNullCompression | DuplicateExtension { .. } | PreSharedKeyNotLast => false,
        },
    }
}

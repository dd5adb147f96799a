//! What there is to say about the gateway's own files: until when each certificate, revocation list and
//! staple is good.
//!
//! Facts for metrics, the admin page and the log; decides nothing about any connection. `material`
//! makes them when it loads.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;

use super::identity::identify;
use crate::config::plan::FileRef;
use crate::core::expiry::Urgency;
use crate::core::identity::Identity;

/// One certificate, list or staple out of a file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateNote {
    pub kind: NoteKind,
    /// The part of the configuration that names the file, as `tls.downstream.orders.certificates[0]`.
    pub owner: String,
    pub path: PathBuf,
    /// Its place in the file, from 1.
    pub number: usize,
    /// Whose it is; of a list its issuer, of a staple the certificate.
    pub subject: String,
    /// SHA-256 of it in DER.
    pub digest: [u8; 32],
    /// `None` for lists and staples.
    pub identity: Option<Identity>,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds; of a list or a staple its next update.
    pub not_after: u64,
    /// How many certificates a list revokes.
    pub entries: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    /// Of a chain that clients are shown.
    Server,
    /// An OCSP response beside such a chain.
    Staple,
    /// An anchor by which clients are verified.
    ClientCa,
    /// Of a chain that upstreams are shown.
    UpstreamClient,
    /// An anchor by which upstreams are verified.
    UpstreamCa,
    Crl,
}

/// A `certificate_dir` as a whole: names in it are not the configuration's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryNote {
    /// As `tls.downstream.orders.certificate_dir`.
    pub owner: String,
    pub path: PathBuf,
    /// Pairs that it holds.
    pub pairs: usize,
    /// Those that are in memory, ready for use.
    pub loaded: usize,
    /// Those that could not be used when they were last looked at.
    pub unusable: usize,
    /// Pairs read since the start.
    pub loads: u64,
    /// The file of the pair in memory that ends first, and when.
    pub earliest: Option<(PathBuf, u64)>,
    /// Of the pairs in memory, those that end soon or have ended.
    pub due: Due,
}

/// How many pairs are how near their end. Each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    pub soon: usize,
    pub urgent: usize,
    pub expired: usize,
}

impl CertificateNote {
    pub fn urgency(&self, now: u64) -> Urgency {
        match self.kind {
            NoteKind::Crl | NoteKind::Staple => {
                Urgency::of_list(self.not_before, self.not_after, now)
            }
            NoteKind::Server
            | NoteKind::ClientCa
            | NoteKind::UpstreamClient
            | NoteKind::UpstreamCa => Urgency::of_certificate(self.not_before, self.not_after, now),
        }
    }

    /// A note about a certificate.
    pub(super) fn of_certificate(
        kind: NoteKind,
        file: &FileRef,
        number: usize,
        identity: Identity,
    ) -> Self {
        Self {
            kind,
            owner: owner(file),
            path: file.path.clone(),
            number,
            subject: identity.subject.clone(),
            digest: identity.fingerprint_sha256,
            not_before: identity.not_before,
            not_after: identity.not_after,
            identity: Some(identity),
            entries: None,
        }
    }

    /// Notes about all certificates of a chain.
    pub(super) fn of_chain(
        kind: NoteKind,
        file: &FileRef,
        chain: &[CertificateDer<'_>],
    ) -> Vec<Self> {
        let numbered = (1..).zip(chain);
        let note = |(number, der): (usize, &CertificateDer<'_>)| {
            identify(der).map(|identity| Self::of_certificate(kind, file, number, identity))
        };
        numbered.filter_map(note).collect()
    }
}

impl NoteKind {
    /// In metrics and on the admin page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Staple => "staple",
            Self::ClientCa => "client_ca",
            Self::UpstreamClient => "upstream_client",
            Self::UpstreamCa => "upstream_ca",
            Self::Crl => "crl",
        }
    }
}

impl Due {
    pub(super) fn count(&mut self, urgency: Urgency) {
        match urgency {
            Urgency::Calm => {}
            Urgency::Soon => self.soon += 1,
            Urgency::Urgent => self.urgent += 1,
            Urgency::Expired => self.expired += 1,
        }
    }
}

/// The table or element that a file's key stands in; of a list of files, the element.
pub(super) fn owner(file: &FileRef) -> String {
    let key = &*file.at.key;
    let parent = [".chain", ".key", ".ocsp"].iter().find_map(|end| key.strip_suffix(end));
    parent.unwrap_or(key).to_owned()
}

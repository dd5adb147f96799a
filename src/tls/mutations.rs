//! What peers and operators could hand in, altered at random from a fixed seed: nothing that reads it
//! panics or takes long. Chains go the whole way to the words of a refusal, as on a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_kit::{Authority, ClientSpec};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::crl::RevocationList;
use super::diagnosis::diagnose;
use super::path::{self, Chain, Fault, Purpose};
use super::pem::Findings;
use super::trust::TrustStore;
use crate::config::error::Location;
use crate::config::plan::{FileRef, OnChange, Revocation, RevocationCheck, Trust, Uncertain};
use crate::core::ticket_key_file::KeyFile;
use crate::core::ticket_roots::TicketRoots;
use crate::core::trust::rule::NameKind;
use crate::core::trust::{LeafPolicy, Mode, NameRule};

/// xorshift, so that a failure is found again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }

    /// One to four changes: a bit, a byte, a piece left out, said twice or put elsewhere, an end.
    fn alter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut altered = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(altered.len());
            let piece = at..(at + 1 + self.below(40)).min(altered.len());
            match self.below(7) {
                0 | 1 if !altered.is_empty() => altered[at] ^= 1 << self.below(8),
                2 if !altered.is_empty() => altered[at] = [0, 0xff, 0x80, 0x84][self.below(4)],
                3 => drop(altered.drain(piece)),
                4 => {
                    let twice = altered[piece].to_vec();
                    let to = self.below(altered.len());
                    altered.splice(to..to, twice);
                }
                5 => altered.insert(at, u8::try_from(self.below(256)).unwrap()),
                _ if self.below(8) == 0 => altered.truncate(at),
                _ => {}
            }
        }
        altered
    }
}

fn place() -> Location {
    Location { file: Arc::default(), line: 1, column: 1, key: "trust".into() }
}

fn trust(authority: &Authority, below: &Authority) -> Arc<TrustStore> {
    let file = |path| FileRef { path, at: place() };
    let lists = authority.revocation_list(&[]) + &below.revocation_list(&[]);
    let check = RevocationCheck::Chain;
    let trust = Trust {
        name: "clients".into(),
        at: place(),
        anchors: vec![file(authority.ca_path().to_owned())],
        crls: vec![file(authority.write("lists", "crl", &lists))],
        revocation: Revocation { check, unknown: Uncertain::Refuse, stale: Uncertain::Refuse },
        depth_max: 6,
        leaf: LeafPolicy {
            san: vec![NameRule::parse(NameKind::Uri, "spiffe://example.org/**").unwrap()],
            ..LeafPolicy::default()
        },
        mode: Mode::Enforce,
        on_change: OnChange::Keep,
    };
    TrustStore::load((0, &trust), now(), &mut Findings::default()).unwrap()
}

fn now() -> u64 {
    portcullis_kit::wall_now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn elapsed(work: impl FnOnce()) -> Duration {
    let began: Instant = portcullis_kit::monotonic_now();
    work();
    began.elapsed()
}

// threats 11, 13
#[test]
fn no_altered_chain_breaks_or_delays_whoever_verifies_it() {
    let authority = Authority::new("Clients");
    let below = authority.intermediate("Clients below");
    let spec = ClientSpec::new("alice").uri("spiffe://example.org/alice").dns("alice.test");
    let chain = below.client(&spec).chain_der;
    let trust = trust(&authority, &below);
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let (mut chance, mut accepted, mut slowest) = (Chance(0x5eed), 0, Duration::ZERO);
    for _ in 0..ROUNDS {
        let mut shown: Vec<CertificateDer<'static>> = chain.clone();
        let which = chance.below(shown.len());
        shown[which] = chance.alter(&shown[which]).into();
        let now = now();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        slowest = slowest.max(elapsed(|| {
            let sent = Chain { leaf: &shown[0], intermediates: &shown[1..] };
            match path::verify(&trust, &algorithms, sent, Purpose::Client, time) {
                Ok(_) => {
                    accepted += 1;
                    assert_eq!(shown, chain, "an altered chain was accepted");
                }
                Err(fault) => {
                    assert!(!diagnose(&fault, sent, &trust, now).refusal.detail.is_empty());
                }
            }
            // Whatever webpki has against it, the certificate is looked for that it is about.
            for error in [
                webpki::Error::UnsupportedCertVersion,
                webpki::Error::UnsupportedCriticalExtension,
                webpki::Error::NameConstraintViolation,
                webpki::Error::EmptyEkuExtension,
                webpki::Error::UnknownIssuer,
            ] {
                let found = diagnose(&Fault::Path(error), sent, &trust, now);
                assert!(!found.refusal.detail.is_empty());
            }
        }));
    }
    assert!(accepted < ROUNDS, "nothing was altered");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

// threat 14
#[test]
fn no_altered_list_breaks_its_reader() {
    let authority = Authority::new("Clients");
    let revoked: Vec<_> = (0..8).map(|_| authority.client(&ClientSpec::new("x"))).collect();
    let list = authority.revocation_list(&revoked.iter().collect::<Vec<_>>());
    let list = CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap();
    let mut chance = Chance(0x115);
    for _ in 0..ROUNDS {
        let altered = chance.alter(&list);
        if let Err(why) = RevocationList::parse(&altered) {
            assert!(!why.is_empty());
        }
    }
}

// threat 21
#[test]
fn no_altered_file_of_ticket_keys_breaks_its_reader_or_is_quoted() {
    let mut chance = Chance(0x57e4);
    let roots = TicketRoots::new(&super::stek::random_root().unwrap()).render();
    let secret = roots.split(' ').next_back().unwrap()[..8].to_owned();
    let raw: Vec<u8> = super::stek::random_root().unwrap().repeat(3)[..80].to_vec();
    for _ in 0..ROUNDS {
        if let Err(error) = TicketRoots::parse(&chance.alter(roots.as_bytes())) {
            let told = error.to_string();
            assert!(!told.is_empty() && !told.contains(&*secret), "{told}");
        }
        if let Err(error) = KeyFile::parse(&chance.alter(&raw)) {
            assert!(!error.to_string().is_empty());
        }
    }
}

const ROUNDS: usize = 4_000;

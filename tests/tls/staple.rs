//! OCSP responses beside a certificate: shown while they are good, explained where they cannot be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use portcullis::config::error::Problem;
use portcullis::config::plan::ClientAuth;
use portcullis::core::route::ChainId;
use portcullis::tls::NoteKind;
use portcullis::tls::downstream::DownstreamTerms;
use portcullis::tls::material::Material;
use portcullis_kit::{Authority, Identity};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::support::*;

/// Asks `openssl ocsp`, the CA's own responder, about a certificate. `status` is a line of its index
/// but for the serial number.
fn respond(authority: &Authority, identity: &Identity, status: &str, days: &str) -> PathBuf {
    let serial: String = identity.serial().iter().map(|byte| format!("{byte:02X}")).collect();
    let name = identity.chain_path.file_stem().unwrap().to_str().unwrap();
    let line = status.replace("SERIAL", &serial);
    let index = authority.write(&format!("{name}-index"), "txt", &line);
    let key = authority.write(&format!("{name}-ca"), "key", &authority.key_pem());
    let response = index.with_extension("ocsp");
    let ca = authority.ca_path();
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-noverify", "-index"]).arg(&index);
    for (flag, path) in [("-CA", ca), ("-rsigner", ca), ("-rkey", &key), ("-issuer", ca)] {
        command.arg(flag).arg(path);
    }
    command.arg("-cert").arg(&identity.chain_path).arg("-respout").arg(&response);
    if !days.is_empty() {
        command.args(["-ndays", days]);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    response
}

const GOOD: &str = "V\t351231235959Z\t\tSERIAL\tunknown\t/CN=x\n";
const REVOKED: &str = "R\t351231235959Z\t250101000000Z\tSERIAL\tunknown\t/CN=x\n";

fn world(identity: &Identity, ocsp: &Path) -> (World, ChainId) {
    let mut world = World::new();
    let chain = world.chain("a", identity, ClientAuth::None);
    world.plan.downstream_tls[0].certificates[0].ocsp = Some(file(ocsp));
    (world, chain)
}

fn problems(world: &World) -> Vec<Problem> {
    Material::load(&world.plan, &world.stek, 1, unix_now, None).unwrap_err()
}

/// Keeps the staple that the server showed.
#[derive(Debug)]
struct Looking {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.seen.lock().unwrap().push(ocsp_response.to_vec());
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The staple that a client of each version is shown.
fn shown(terms: &Arc<DownstreamTerms>, authority: &Authority) -> Vec<Vec<u8>> {
    let inner = WebPkiServerVerifier::builder_with_provider(
        authority.roots(),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    let looking = Arc::new(Looking { inner: inner.build().unwrap(), seen: Mutex::default() });
    for version in VERSIONS {
        let mut config = client_config(authority.roots(), version, None);
        let verifier = Arc::clone(&looking) as Arc<dyn ServerCertVerifier>;
        config.dangerous().set_certificate_verifier(verifier);
        let mut peer = client(&Arc::new(config), NAME);
        handshake(terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
    }
    let seen = looking.seen.lock().unwrap();
    seen.clone()
}

#[test]
fn a_good_response_is_shown_to_clients_byte_for_byte() {
    let authority = Authority::new("CA");
    let server = authority.server(&[NAME]);
    let response = respond(&authority, &server, GOOD, "7");
    let (world, chain) = world(&server, &response);
    let material = world.load();
    assert!(material.warnings().is_empty(), "{:?}", material.warnings());
    let note = material.certificates().find(|note| note.kind == NoteKind::Staple).unwrap();
    assert!(note.not_after > unix_now() + 6 * 86_400, "{note:?}");
    assert_eq!(note.subject, format!("CN={NAME}"));
    let bytes = fs::read(&response).unwrap();
    assert_eq!(shown(&world.terms(chain), &authority), [bytes.clone(), bytes]);
}

#[test]
fn a_response_that_is_over_loads_with_a_warning_and_is_not_shown() {
    let authority = Authority::new("CA");
    let server = authority.server(&[NAME]);
    let response = respond(&authority, &server, GOOD, "7");
    let (mut world, chain) = world(&server, &response);
    let later: fn() -> u64 = || unix_now() + 8 * 86_400;
    let load = |world: &World| Material::load(&world.plan, &world.stek, 1, later, None).unwrap();
    let material = load(&world);
    let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
    assert!(warning.message.contains("out of date since 1 day and is not shown"), "{warning}");
    assert_eq!(
        shown(material.downstream(0, chain).unwrap(), &authority),
        [Vec::<u8>::new(), Vec::new()]
    );
    world.plan.downstream_tls[0].certificates[0].ocsp = None;
    assert!(load(&world).warnings().is_empty());
}

#[test]
fn what_a_response_says_against_its_certificate_is_a_warning() {
    let authority = Authority::new("CA");
    for (status, days, says) in [
        (REVOKED, "7", "says that the certificate is revoked"),
        ("", "7", "does not know the certificate"),
        (GOOD, "", "does not say until when it is good"),
    ] {
        let server = authority.server(&[NAME]);
        let response = respond(&authority, &server, status, days);
        let (world, chain) = world(&server, &response);
        let material = world.load();
        let [warning] = material.warnings() else { panic!("{:?}", material.warnings()) };
        assert!(warning.message.contains(says), "{warning}");
        assert!(!shown(&world.terms(chain), &authority)[0].is_empty(), "{says}");
    }
}

#[test]
fn a_response_that_cannot_be_used_is_told_at_its_place_with_help() {
    let authority = Authority::new("CA");
    let (server, other) = (authority.server(&[NAME]), authority.server(&[NAME]));
    let others = respond(&authority, &other, GOOD, "7");
    let write = |name: &str, bytes: &[u8]| {
        let path = authority.write(name, "ocsp", "");
        fs::write(&path, bytes).unwrap();
        path
    };
    for (path, says) in [
        (PathBuf::from("/nonexistent.ocsp"), "cannot read /nonexistent.ocsp"),
        (write("empty", b""), "it is empty"),
        (write("text", b"good"), "it is not DER"),
        (server.chain_path.clone(), "no OCSP response in DER"),
        (write("later", &[0x30, 3, 10, 1, 3]), "tryLater"),
        (write("huge", &vec![0x30; 65_537]), "is longer than 65536 bytes"),
        (others, "about another certificate"),
    ] {
        let (world, _) = world(&server, &path);
        let found = problems(&world);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains(says), "{}", found[0]);
        assert!(!found[0].help.is_empty(), "{}", found[0]);
        assert_eq!(&*found[0].at.key, path.to_str().unwrap());
    }
}

#[test]
fn of_several_certificates_the_one_for_the_clients_name_is_shown() {
    let authority = Authority::new("CA");
    let (first, second) = (authority.server(&["a.test"]), authority.server(&["b.test"]));
    let mut world = World::new();
    let chain = world.chain("a", &first, ClientAuth::None);
    world.plan.downstream_tls[0].certificates.push(files(&second));
    let terms = world.terms(chain);
    for (name, identity) in [("a.test", &first), ("b.test", &second)] {
        let config = client_config(authority.roots(), &rustls::version::TLS13, None);
        let mut peer = client(&Arc::new(config), name);
        handshake(&terms, &mut peer, name).map_err(|error| error.0).unwrap();
        assert_eq!(&peer.peer_certificates().unwrap()[0], identity.leaf(), "{name}");
    }
}

//! The certificates of the kit are what their specification says, in webpki's eyes.

use std::sync::Arc;

use rustls::pki_types::{CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};

use super::*;

fn verifier(authority: &Authority, crl: Option<String>) -> Arc<dyn ClientCertVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
    if let Some(crl) = crl {
        let crl = CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).unwrap();
        builder = builder.with_crls([crl]).only_check_end_entity_revocation();
    }
    builder.build().unwrap()
}

fn verdict(verifier: &dyn ClientCertVerifier, client: &Identity) -> Result<(), Error> {
    verifier.verify_client_cert(client.leaf(), &client.chain_der[1..], UnixTime::now()).map(drop)
}

#[test]
fn clients_of_every_key_kind_verify() {
    let root = Authority::new("root");
    let verifier = verifier(&root, None);
    for key in [KeyKind::EcdsaP256, KeyKind::Rsa2048, KeyKind::Ed25519] {
        let spec = ClientSpec::new("alice").uri("spiffe://example.org/alice").key(key);
        verdict(&*verifier, &root.client(&spec)).unwrap();
    }
}

#[test]
fn wrong_clients_are_wrong_in_the_way_they_say() {
    let root = Authority::new("root");
    let verifier = verifier(&root, None);
    let error = |spec: ClientSpec| match verdict(&*verifier, &root.client(&spec)) {
        Err(Error::InvalidCertificate(error)) => error,
        other => panic!("{spec:?} led to {other:?}"),
    };
    let expired = error(ClientSpec::new("a").expired());
    assert!(matches!(expired, CertificateError::ExpiredContext { .. }), "{expired:?}");
    let early = error(ClientSpec::new("a").not_yet_valid());
    assert!(matches!(early, CertificateError::NotValidYetContext { .. }), "{early:?}");
    let purpose = error(ClientSpec::new("a").wrong_eku());
    assert!(matches!(purpose, CertificateError::InvalidPurposeContext { .. }), "{purpose:?}");
}

#[test]
fn a_leaf_below_an_intermediate_needs_it() {
    let root = Authority::new("root");
    let client = root.intermediate("middle").intermediate("low").client(&ClientSpec::new("bob"));
    assert_eq!(client.chain_der.len(), 3);
    let verifier = verifier(&root, None);
    verdict(&*verifier, &client).unwrap();
    let alone = client.leaf_only();
    assert_eq!(alone.chain_pem.matches("BEGIN CERTIFICATE").count(), 1);
    let error = verdict(&*verifier, &alone).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn a_revocation_list_revokes_what_it_names_and_nothing_else() {
    let root = Authority::new("root");
    let (good, bad) = (root.client(&ClientSpec::new("good")), root.client(&ClientSpec::new("bad")));
    let verifier = verifier(&root, Some(root.revocation_list(&[&bad])));
    verdict(&*verifier, &good).unwrap();
    let error = verdict(&*verifier, &bad).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
}

#[test]
fn a_server_certificate_covers_its_names() {
    let root = Authority::new("root");
    let server = root.server(&["a.example.com", "*.b.example.com", "127.0.0.1"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(root.roots(), provider)
            .build()
            .unwrap();
    use rustls::client::danger::ServerCertVerifier;
    let verify = |name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(server.leaf(), &[], &name, &[], UnixTime::now()).map(drop)
    };
    for name in ["a.example.com", "x.b.example.com", "127.0.0.1"] {
        verify(name).unwrap();
    }
    verify("c.example.com").unwrap_err();
}

#[test]
fn the_files_hold_what_the_fields_hold_and_go_away_with_the_last_owner() {
    use std::os::unix::fs::PermissionsExt;

    let root = Authority::new("root / of: trust");
    let client = root.client(&ClientSpec::new("al ice").serial(&[0x0a, 0x1b, 0x2c]));
    assert_eq!(client.serial(), [0x0a, 0x1b, 0x2c]);
    assert_eq!(fs::read_to_string(&client.chain_path).unwrap(), client.chain_pem);
    assert_eq!(fs::read_to_string(&client.key_path).unwrap(), client.key_pem);
    assert_eq!(fs::read_to_string(root.ca_path()).unwrap(), root.ca_pem());
    assert_eq!(fs::metadata(&client.key_path).unwrap().permissions().mode() & 0o777, 0o600);
    let directory = root.directory().to_owned();
    drop(root);
    assert!(client.key_path.exists());
    drop(client);
    assert!(!directory.exists());
}

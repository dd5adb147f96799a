//! CAs made by hand, and what the gateway says of the chains that they issue.

use std::sync::Arc;

use portcullis::config::plan::*;
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::core::route::ChainId;
use portcullis::tls::material::Material;
use portcullis_kit::Authority;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::support::{NAME, World, client, client_config, file, handshake, unix_now};

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

/// A chain to show, the lists that the trust has, and what is tried on whom it has none of.
pub(crate) struct Shown<'a> {
    pub(crate) root: &'a Ca,
    /// Leaf first.
    pub(crate) path: &'a [&'a Ca],
    pub(crate) lists: Vec<String>,
    pub(crate) unknown: Uncertain,
}

impl Shown<'_> {
    /// What the gateway says of the trust's files: mistakes, or warnings without any.
    pub(crate) fn said(&self) -> Vec<String> {
        let servers = Authority::new("Servers");
        let (world, _) = self.world(&servers);
        match Material::load(&world.plan, &world.stek, 1, unix_now, None) {
            Ok(material) => material.warnings().iter().map(ToString::to_string).collect(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    fn world(&self, servers: &Authority) -> (World, ChainId) {
        let server = servers.server(&[NAME]);
        let mut world = World::new();
        let trust = world.trust(servers);
        let written = |name: &str, text: &str| file(&servers.write(name, "pem", text));
        let of_trust = &mut world.plan.trusts[0];
        of_trust.anchors = vec![written("root", &self.root.pem())];
        of_trust.crls = self.lists.iter().map(|list| written("list", list)).collect();
        if !self.lists.is_empty() {
            of_trust.revocation.check = RevocationCheck::Leaf;
        }
        of_trust.revocation.unknown = self.unknown;
        let chain = world.chain("edge", &server, ClientAuth::Require(trust));
        (world, chain)
    }

    /// `None`: let in.
    pub(crate) fn refusal(self) -> Option<(Reason, String)> {
        self.met().err().map(|refusal| (refusal.reason, refusal.detail.to_string()))
    }

    /// How the client fares.
    pub(crate) fn met(self) -> Result<(), Refusal> {
        let servers = Authority::new("Servers");
        let (world, chain) = self.world(&servers);
        let key = PrivatePkcs8KeyDer::from(self.path[0].key().serialize_der()).into();
        let shown = self.path.iter().map(|one| one.der().clone()).collect();
        meet(&world, chain, &servers, shown, &key)
    }
}

/// How a client fares that shows these certificates and signs with this key, whoever's that is.
pub(crate) fn meet(
    world: &World,
    chain: ChainId,
    servers: &Authority,
    shown: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<(), Refusal> {
    let mut config = client_config(servers.roots(), &rustls::version::TLS13, None);
    let key = aws_lc_rs::sign::any_supported_type(key).unwrap();
    // rustls itself would not show every leaf.
    let shown = SingleCertAndKey::from(CertifiedKey::new(shown, key));
    config.client_auth_cert_resolver = Arc::new(shown);
    let met = handshake(&world.terms(chain), &mut client(&Arc::new(config), NAME), NAME);
    met.map(|_| ()).map_err(|(refusal, _)| refusal)
}

pub(crate) fn ca_params(name: &str, usages: &[KeyUsagePurpose]) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params
}

pub(crate) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(7));
    params
}

pub(crate) fn root() -> Ca {
    let params = ca_params("Root", &ALL);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn below(issuer: &Ca, params: CertificateParams) -> Ca {
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

pub(crate) fn list(issuer: &Ca, point: Option<&str>, revoked: &[u64]) -> String {
    list_from(2020, issuer, point, revoked)
}

/// A list that begins in this year.
pub(crate) fn list_from(year: i32, issuer: &Ca, point: Option<&str>, revoked: &[u64]) -> String {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: rcgen::date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let point = point.map(|uri| CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
        scope: None,
    });
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(year, 1, 1),
        next_update: rcgen::date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: point,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

pub(crate) const ALL: [KeyUsagePurpose; 2] =
    [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

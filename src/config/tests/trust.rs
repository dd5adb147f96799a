//! Keys of trust, of authorize filters and of certificates: words, defaults, and rules that go
//! together. What is said of mistakes is in `mistakes.txt`.

use super::super::plan::{FilterKind, OnChange, Revocation, RevocationCheck, Trust, Uncertain};
use super::{plan, problems};
use crate::core::trust::{Authorize, KeyRule, LeafPolicy, Matcher, Mode, NameKind, NameRule, Pin};

/// A trust with these keys beside its anchors.
fn trust(keys: &str) -> Trust {
    let plan = plan(&format!("[trust.t]\nanchors = [\"ca.crt\"]\n{keys}\n"));
    plan.trusts.into_iter().find(|trust| &*trust.name == "t").expect("is there")
}

/// The authorize filter that these keys make.
fn authorize(keys: &str) -> Authorize {
    let plan = plan(&format!(
        "[listener.l]\naddress = \"127.0.0.1:0\"\n[listener.l.chain.c]\ntls = \"edge\"\n\
         cluster = \"echo\"\nfilters = [{{ type = \"authorize\", {keys} }}]\n"
    ));
    let [filter] = &plan.listeners[0].chains[0].filters[..] else { panic!("one filter") };
    let FilterKind::Authorize(authorize) = &filter.kind else { panic!("an authorize filter") };
    assert_eq!(&*filter.at.key, "listener.l.chain.c.filters[0]");
    authorize.clone()
}

fn name(kind: NameKind, text: &str) -> NameRule {
    NameRule::parse(kind, text).expect("is a rule")
}

#[test]
fn a_trust_asks_only_for_sound_keys_by_default() {
    let trust = trust("");
    assert_eq!(trust.leaf.keys, KeyRule::DEFAULT);
    assert!(trust.leaf.pins.is_empty() && trust.leaf.san.is_empty() && trust.crls.is_empty());
    let off = Revocation {
        check: RevocationCheck::Off,
        unknown: Uncertain::Refuse,
        stale: Uncertain::Refuse,
    };
    assert_eq!(trust.revocation, off);
    assert_eq!((trust.depth_max, trust.mode, trust.on_change), (6, Mode::Enforce, OnChange::Keep));
}

#[test]
fn empty_lists_and_written_defaults_mean_the_defaults() {
    let written = trust(
        r#"
        crls = []
        revocation = { check = "off" }
        depth_max = 6
        client_keys = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048-4096"]
        san = []
        pins = []
        mode = "enforce"
        on_change = "keep"
        "#,
    );
    let default = trust("");
    assert_eq!(written.leaf, default.leaf);
    assert_eq!(written.revocation, default.revocation);
    assert_eq!((written.depth_max, written.mode), (default.depth_max, default.mode));
}

#[test]
fn revocation_is_checked_along_the_chain_where_there_are_lists() {
    let trust = trust("crls = [\"a.crl\", \"/etc/b.crl\"]");
    assert_eq!(trust.revocation.check, RevocationCheck::Chain);
    assert_eq!(trust.revocation.unknown, Uncertain::Refuse);
    assert_eq!(trust.revocation.stale, Uncertain::Refuse);
    assert!(trust.crls[0].path.is_absolute() && trust.crls[0].path.ends_with("a.crl"));
    assert_eq!(trust.crls[1].path.to_str(), Some("/etc/b.crl"));
    assert_eq!(&*trust.crls[1].at.key, "trust.t.crls[1]");
}

#[test]
fn every_word_of_a_trust_means_what_it_says() {
    for (word, check) in [("chain", RevocationCheck::Chain), ("leaf", RevocationCheck::Leaf)] {
        let keys = format!("crls = [\"a.crl\"]\nrevocation = {{ check = {word:?} }}");
        assert_eq!(trust(&keys).revocation.check, check);
    }
    for (word, uncertain) in [("refuse", Uncertain::Refuse), ("accept", Uncertain::Accept)] {
        let list = "crls = [\"a.crl\"]\n";
        let unknown = trust(&format!("{list}revocation = {{ unknown = {word:?} }}")).revocation;
        assert_eq!((unknown.unknown, unknown.stale), (uncertain, Uncertain::Refuse));
        let stale = trust(&format!("{list}revocation = {{ stale = {word:?} }}")).revocation;
        assert_eq!((stale.unknown, stale.stale), (Uncertain::Refuse, uncertain));
    }
    for (word, mode) in [("enforce", Mode::Enforce), ("audit", Mode::Audit)] {
        assert_eq!(trust(&format!("mode = {word:?}")).mode, mode);
        assert_eq!(authorize(&format!("deny = [{{ cn = \"a\" }}], mode = {word:?}")).mode, mode);
    }
    let changes =
        [("keep", OnChange::Keep), ("drain", OnChange::Drain), ("close", OnChange::Close)];
    for (word, change) in changes {
        assert_eq!(trust(&format!("on_change = {word:?}")).on_change, change);
    }
    for depth in 0..=6 {
        assert_eq!(trust(&format!("depth_max = {depth}")).depth_max, depth);
    }
}

#[test]
fn what_is_asked_of_a_leaf_is_what_was_written_in_its_order() {
    let digest = "ab".repeat(32);
    let trust = trust(&format!(
        r#"
        client_keys = ["rsa-3072-8192", "ecdsa-p521", "ed25519"]
        pins = ["{digest}", "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
        san = [
          {{ uri = "spiffe://example.org/**" }}, {{ dns = "*.internal" }},
          {{ email = "@example.org" }}, {{ ip = "10.0.0.0/8" }}, {{ cn = "svc-*" }},
        ]
        "#
    ));
    let expected = LeafPolicy {
        keys: vec![KeyRule::Rsa { min: 3072, max: 8192 }, KeyRule::EcdsaP521, KeyRule::Ed25519],
        pins: vec![Pin([0xab; 32]), Pin([0; 32])],
        san: vec![
            name(NameKind::Uri, "spiffe://example.org/**"),
            name(NameKind::Dns, "*.internal"),
            name(NameKind::Email, "@example.org"),
            name(NameKind::Ip, "10.0.0.0/8"),
            name(NameKind::Cn, "svc-*"),
        ],
    };
    assert_eq!(trust.leaf, expected);
}

#[test]
fn an_authorize_filter_has_the_elements_that_were_written() {
    let filter = authorize(
        r#"allow = [{ uri = "spiffe://example.org/ns/orders/**" }, { serial = "01" }],
           deny = [{ serial = "0A:1b:2c" }]"#
            .replace('\n', "")
            .as_str(),
    );
    let uri = name(NameKind::Uri, "spiffe://example.org/ns/orders/**");
    let expected = Authorize {
        allow: vec![Matcher::Name(uri), Matcher::Serial(Box::from([1]))],
        deny: vec![Matcher::Serial(Box::from([0x0a, 0x1b, 0x2c]))],
        mode: Mode::Enforce,
    };
    assert_eq!(filter, expected);
}

#[test]
fn an_empty_deny_beside_allow_denies_nobody() {
    let filter = authorize("allow = [{ dns = \"a.internal\" }], deny = []");
    assert_eq!((filter.allow.len(), filter.deny.len()), (1, 0));
}

#[test]
fn filters_of_a_chain_keep_their_order() {
    let plan = plan(
        r#"
        [listener.l]
        address = "127.0.0.1:0"
        [listener.l.chain.c]
        tls = "edge"
        cluster = "echo"
        [[listener.l.chain.c.filters]]
        type = "authorize"
        deny = [{ cn = "a" }]
        [[listener.l.chain.c.filters]]
        type = "authorize"
        allow = [{ cn = "b*" }]
        mode = "audit"
        [[listener.l.chain.c.filters]]
        type = "connection_limit"
        connections = 10_000
        [[listener.l.chain.c.filters]]
        type = "rate_limit"
        rate = "1200/m"
        [[listener.l.chain.c.filters]]
        type = "rate_limit"
        by = "client"
        rate = "500/s"
        burst = 1_000
        "#,
    );
    let shown: Vec<String> = plan.listeners[0].chains[0]
        .filters
        .iter()
        .map(|filter| match &filter.kind {
            FilterKind::Authorize(authorize) => authorize.describe(),
            FilterKind::ConnectionLimit(limit) => format!("{limit} connections"),
            FilterKind::RateLimit { by, rate } => {
                format!("{rate}, {} at once, {by:?}", rate.burst())
            }
        })
        .collect();
    let expected = [
        "allow = []\ndeny = [cn = \"a\"]\nmode = enforce\n",
        "allow = [cn = \"b*\"]\ndeny = []\nmode = audit\n",
        "10000 connections",
        "1200/m, 20 at once, Chain",
        "500/s, 1000 at once, Client",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn optional_certificates_are_enough_for_an_authorize_filter() {
    let plan = plan(
        r#"
        [tls.downstream.maybe]
        certificates = [{ chain = "a.crt", key = "a.key" }]
        client_auth = "optional"
        trust = "clients"
        [listener.l]
        address = "127.0.0.1:0"
        [listener.l.chain.c]
        tls = "maybe"
        cluster = "echo"
        filters = [{ type = "authorize", deny = [{ cn = "a" }] }]
        "#,
    );
    assert_eq!(plan.listeners[0].chains[0].filters.len(), 1);
}

#[test]
fn a_directory_stands_instead_of_a_list_of_certificates() {
    let plan =
        plan("[tls.downstream.many]\ncertificate_dir = \"certs/\"\nclient_auth = \"none\"\n");
    let many = plan.downstream_tls.iter().find(|tls| &*tls.name == "many").expect("is there");
    let directory = many.certificate_dir.as_ref().expect("was written");
    assert!(many.certificates.is_empty());
    assert!(directory.path.is_absolute() && directory.path.ends_with("certs"));
    assert_eq!((directory.at.line, &*directory.at.key), (2, "tls.downstream.many.certificate_dir"));
    let edge = plan.downstream_tls.iter().find(|tls| &*tls.name == "edge").expect("is there");
    assert!(edge.certificate_dir.is_none() && edge.certificates.len() == 1);
}

#[test]
fn an_ocsp_response_stands_beside_its_certificate() {
    let plan = plan(
        "[tls.downstream.x]\nclient_auth = \"none\"\ncertificates = [{ chain = \"a.crt\", \
         key = \"a.key\", ocsp = \"a.ocsp\" }, { chain = \"b.crt\", key = \"b.key\" }]\n",
    );
    let x = plan.downstream_tls.iter().find(|tls| &*tls.name == "x").expect("is there");
    let ocsp = x.certificates[0].ocsp.as_ref().expect("was written");
    assert!(ocsp.path.is_absolute() && ocsp.path.ends_with("a.ocsp"));
    assert_eq!(&*ocsp.at.key, "tls.downstream.x.certificates[0].ocsp");
    assert!(x.certificates[1].ocsp.is_none());
}

/// A value of the wrong type is told once, and what depends on it is not told to be missing.
#[test]
fn one_mistake_is_one_problem() {
    for text in [
        "[trust.t]\nanchors = [\"a\"]\nsan = [{ uri = 3 }]\n",
        "[trust.t]\nanchors = [\"a\"]\nsan = [{ urii = \"spiffe://a/b\" }]\n",
        "[trust.t]\nanchors = [\"a\"]\ncrls = 3\nrevocation = { check = \"leaf\" }\n",
        "[trust.t]\nanchors = [\"a\"]\ncrls = \"a.crl\"\nrevocation = { unknown = \"accept\" }\n",
        "[tls.downstream.x]\ncertificate_dir = 3\nclient_auth = \"none\"\n",
        "[tls.downstream.x]\ncertificates = 3\nclient_auth = \"none\"\n",
        "[listener.l]\naddress = \"127.0.0.1:0\"\nchain.c = { tls = \"edge\", cluster = \"echo\", \
         filters = [{ type = \"authorize\", allow = 3 }] }\n",
        "[listener.l]\naddress = \"127.0.0.1:0\"\nchain.c = { tls = \"edge\", cluster = \"echo\", \
         filters = [{ typ = \"authorize\", allow = [{ cn = \"a\" }] }] }\n",
    ] {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{text}{problems:#?}");
    }
}

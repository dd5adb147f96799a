//! What trust costs: re-authorising a resumption by look-ups, matching rules about names, and asking an
//! authorize filter.
//!
//! The standing is that of a client with leaf and intermediate, from a whole handshake in memory; lists
//! have no entry, a thousand, and a million.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis::core::trust::rule::NameKind;
use portcullis::core::trust::{Authorize, Decision, KeyKind, LeafFacts, Matcher, NameRule, Names};

use crate::Case;
use crate::tls::{Edge, now};

pub fn cases() -> Vec<Case> {
    let reauthorise = [0, 1_000, 1_000_000].into_iter().map(reauthorise);
    reauthorise.chain(rules()).chain([many_rules(), authorize()]).collect()
}

fn reauthorise(entries: u64) -> Case {
    // A million entries take a signature's time and more to read: not on each measurement.
    let name = format!("trust/reauthorise/{entries}_revoked");
    let made = move || {
        let edge = Edge::new(entries);
        let standing = edge.client().standing.expect("the client was verified");
        let trust = Arc::clone(edge.terms.trust().expect("clients are asked"));
        assert!(trust.holds(&standing, now()), "the client is let in");
        (standing, trust)
    };
    if entries < 1_000_000 {
        let (standing, trust) = made();
        let now = now();
        return Case::new(name, move || trust.holds(black_box(&standing), black_box(now)));
    }
    let mut late = None;
    let now = now();
    Case::new(name, move || {
        let (standing, trust) = late.get_or_insert_with(made);
        trust.holds(black_box(standing), black_box(now))
    })
    .timed_only()
}

fn rules() -> impl Iterator<Item = Case> {
    let rules = [
        ("uri", NameKind::Uri, "spiffe://example.org/ns/orders/**"),
        ("uri_miss", NameKind::Uri, "spiffe://example.org/ns/*/sa/web"),
        ("dns", NameKind::Dns, "*.orders.internal"),
        ("email", NameKind::Email, "*@example.org"),
        ("ip", NameKind::Ip, "10.0.0.0/8"),
        ("cn", NameKind::Cn, "orders-*"),
    ];
    rules.into_iter().map(|(case, kind, text)| {
        let (rule, names) = (rule(kind, text), names());
        assert_eq!(rule.matches(&names), case != "uri_miss", "{text}");
        Case::new(format!("trust/rule/{case}"), move || rule.matches(black_box(&names)))
    })
}

/// A list of 32, of which the last takes the client.
fn many_rules() -> Case {
    let text = |at| format!("spiffe://example.org/ns/tenant-{at}/**");
    let mut rules: Vec<_> = (0..31).map(|at| rule(NameKind::Uri, &text(at))).collect();
    rules.push(rule(NameKind::Uri, "spiffe://example.org/ns/orders/**"));
    let names = names();
    Case::new("trust/rule/32_rules", move || {
        rules.iter().position(|rule| rule.matches(black_box(&names)))
    })
}

fn authorize() -> Case {
    let deny = |at: u8| Matcher::Serial([0x0a, 0x1b, at].into());
    let allow = Matcher::Name(rule(NameKind::Dns, "*.orders.internal"));
    let filter =
        Authorize { allow: vec![allow], deny: (0..32).map(deny).collect(), ..Authorize::default() };
    let leaf = LeafFacts {
        names: names(),
        key: KeyKind::EcdsaP256,
        fingerprint: [1; 32],
        spki: [2; 32],
        serial: &[0x0a, 0x1b, 0x2c],
    };
    Case::new("trust/authorize/1_allow_32_deny", move || {
        matches!(filter.decide(black_box(Some(&leaf))), Decision::Allowed(_))
    })
}

fn rule(kind: NameKind, text: &str) -> NameRule {
    NameRule::parse(kind, text).expect("a rule")
}

fn names() -> Names<'static> {
    Names {
        uris: vec!["spiffe://example.org/ns/orders/sa/api"],
        dns: vec!["api.orders.internal"],
        emails: vec!["orders@example.org"],
        ips: vec![IpAddr::from([10, 1, 2, 3])],
        common_names: vec!["orders-api"],
    }
}

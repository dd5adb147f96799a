//! The PROXY protocol: whose headers a listener takes, and what a cluster's endpoints are sent.

use super::super::error::Problems;
use super::super::node::At;
use super::super::plan::{HeaderPlace, ProxyField, ProxyHeader, ProxyVersion};
use super::super::raw::{RawCluster, RawListener};
use super::listener::{explain_prefix, parsed};
use super::{all, number, one_of, plain, required};
use crate::core::route::Prefix;

/// Sources that must begin with a header; empty where the listener says nothing of it.
pub(super) fn taken(raw: &RawListener, problems: &mut Problems) -> Option<Vec<Prefix>> {
    let Some(At { value: table, at }) = &raw.proxy_protocol else { return Some(Vec::new()) };
    let example = ("from", "[\"10.0.0.0/8\"]");
    let from = required(table.from.as_ref(), at, example, problems)?;
    let prefixes: Vec<Prefix> = parsed(Some(from), example, explain_prefix, problems)?;
    for (place, prefix) in prefixes.iter().enumerate() {
        if let (true, Some(written)) = (prefixes[..place].contains(prefix), from.value.get(place)) {
            problems.add(written.at.clone(), format!("{prefix} is in this list already"), "");
        }
    }
    Some(prefixes)
}

/// What the endpoints of a cluster are sent; `Some(None)` is nothing.
pub(super) fn sent(raw: &RawCluster, problems: &mut Problems) -> Option<Option<ProxyHeader>> {
    let Some(At { value: table, .. }) = &raw.proxy_protocol else { return Some(None) };
    let version = number(table.version.as_ref(), 2_u8, 1..=2, problems);
    let fields = fields(table.tlvs.as_ref(), problems);
    if let (Some(1), Some(written)) = (version, table.tlvs.as_ref())
        && !written.value.is_empty()
    {
        let help = "write version = 2, or leave tlvs out";
        problems.add(written.at.clone(), "version 1 has no fields beside the addresses", help);
    }
    if let (Some(At { value: true, at }), None) = (&table.inside_tls, &raw.tls) {
        let help = "write tls = \"NAME\" in the cluster, or leave inside_tls out";
        problems.add(at.clone(), "this cluster speaks no TLS", help);
    }
    let place = match (&raw.tls, plain(table.inside_tls.as_ref(), false)) {
        (Some(_), false) => HeaderPlace::BeforeTls,
        (Some(_), true) | (None, _) => HeaderPlace::FirstBytes,
    };
    let fields = fields?;
    let version = if version? == 1 { ProxyVersion::One } else { ProxyVersion::Two(fields) };
    Some(Some(ProxyHeader { version, place }))
}

fn fields(
    written: Option<&At<Vec<At<String>>>>,
    problems: &mut Problems,
) -> Option<Vec<ProxyField>> {
    let Some(At { value: written, .. }) = written else { return Some(Vec::new()) };
    let fields = all(written, |element| one_of(element, &FIELDS, problems))?;
    for (place, (field, element)) in fields.iter().zip(written).enumerate() {
        if fields[..place].contains(field) {
            let message = format!("{:?} is in this list already", element.value);
            problems.add(element.at.clone(), message, "");
        }
        if *field == ProxyField::ClientCert && !fields.contains(&ProxyField::Ssl) {
            let message = "the client's certificate stands within \"ssl\"";
            problems.add(element.at.clone(), message, "add \"ssl\" to this list");
        }
    }
    Some(fields)
}

const FIELDS: [(&str, ProxyField); 7] = [
    ("alpn", ProxyField::Alpn),
    ("authority", ProxyField::Authority),
    ("unique_id", ProxyField::UniqueId),
    ("ssl", ProxyField::Ssl),
    ("client_cert", ProxyField::ClientCert),
    ("identity", ProxyField::Identity),
    ("crc32c", ProxyField::Crc32c),
];

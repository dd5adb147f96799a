//! How a cluster's endpoints are probed.

use std::time::Duration;

use super::super::error::Problems;
use super::super::node::At;
use super::super::plan::{Health, Plan, Probe, UpstreamServerName};
use super::super::raw::{RawCluster, RawHealth};
use super::{number, one_of, plain, positive, required, shown};
use crate::core::health::Thresholds;
use crate::core::probe_script::{ProbeScript, Service};

/// What the file says of the kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Script,
}

pub(super) fn health(raw: &RawCluster, problems: &mut Problems) -> Option<Option<Health>> {
    let Some(written) = &raw.health else { return Some(None) };
    let At { value: table, at } = written;
    let probe = probe(table, written, raw.tls.is_some(), problems);
    let interval = positive(table.interval.as_ref(), Duration::from_secs(5), problems);
    let timeout = positive(table.timeout.as_ref(), Duration::from_secs(1), problems);
    let healthy = number(table.healthy.as_ref(), 2, 1..=100, problems);
    let unhealthy = number(table.unhealthy.as_ref(), 3, 1..=100, problems);
    let slow_start = plain(table.slow_start.as_ref(), Duration::from_secs(10));
    let mut is_short = true;
    for (name, written) in [("interval", &table.interval), ("slow_start", &table.slow_start)] {
        if let Some(At { value, at }) = written
            && *value > LONGEST
        {
            let message = format!("{name} is {}, longer than a day", shown(*value));
            problems.add(at.clone(), message, "write \"1d\" or less");
            is_short = false;
        }
    }
    let health = Health {
        at: at.clone(),
        probe: probe?,
        interval: interval?,
        timeout: timeout?,
        thresholds: Thresholds { healthy: healthy?, unhealthy: unhealthy? },
        slow_start,
    };
    is_short.then_some(Some(health))
}

/// What can only be seen once every part holds: a handshake for nobody needs a name of its own.
pub(super) fn cross_check(plan: &Plan, problems: &mut Problems) {
    for cluster in &plan.clusters {
        let (Some(health), Some(tls)) = (&cluster.health, cluster.tls) else { continue };
        let asks_for_sni = plan.upstream_tls(tls).server_name == UpstreamServerName::ClientSni
            && cluster.endpoints.iter().any(|endpoint| endpoint.server_name.is_none());
        if asks_for_sni && health.probe != Probe::Tcp {
            let message = "the cluster takes its server name from the client's SNI, and a probe has \
                           no client";
            let help = "write type = \"tcp\", or a server_name in the [tls.upstream.NAME] or at the \
                        endpoints";
            problems.add(health.at.child("type"), message, help);
        }
    }
}

fn probe(
    table: &RawHealth,
    written: &At<RawHealth>,
    in_tls: bool,
    problems: &mut Problems,
) -> Option<Probe> {
    let kind_at = required(table.kind.as_ref(), &written.at, ("type", "\"tcp\""), problems)?;
    let kinds = [("tcp", Kind::Tcp), ("tls", Kind::Tls), ("script", Kind::Script)];
    let kind = one_of(kind_at, &kinds, problems)?;
    if kind == Kind::Tls && !in_tls {
        let help = "write tls = \"NAME\" in the cluster, or type = \"tcp\"";
        problems.add(kind_at.at.clone(), "this cluster speaks no TLS", help);
        return None;
    }
    match kind {
        Kind::Script => script(table, written, in_tls, problems).map(Probe::Script),
        Kind::Tcp | Kind::Tls => {
            for (name, key) in
                [("script", &table.script), ("send", &table.send), ("expect", &table.expect)]
            {
                if let Some(key) = key {
                    let message = format!("{name} is for type = \"script\"");
                    problems.add(key.at.clone(), message, "leave it out, or write that type");
                    return None;
                }
            }
            Some(if kind == Kind::Tcp { Probe::Tcp } else { Probe::Tls })
        }
    }
}

fn script(
    table: &RawHealth,
    written: &At<RawHealth>,
    in_tls: bool,
    problems: &mut Problems,
) -> Option<ProbeScript> {
    if let Some(name) = &table.script {
        if let Some(other) = table.send.as_ref().or(table.expect.as_ref()) {
            let help = "leave script out, or send and expect";
            problems.add(other.at.clone(), "the exchange is that of script already", help);
            return None;
        }
        let services = [
            ("postgres", Service::Postgres),
            ("redis", Service::Redis),
            ("mqtt", Service::Mqtt),
            ("smtp", Service::Smtp),
        ];
        return one_of(name, &services, problems).map(|service| ProbeScript::of(service, in_tls));
    }
    let example = ("expect", "\"+PONG\"");
    let expect = required(table.expect.as_ref(), &written.at, example, problems)?;
    let send = table.send.as_ref().map_or("", |send| send.value.as_str());
    for (name, text) in [("send", send), ("expect", expect.value.as_str())] {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("{name} is longer than {TEXT_BYTES_MAX} bytes");
            problems.add(written.at.child(name), message, "a probe asks one short question");
            return None;
        }
    }
    if expect.value.is_empty() {
        let help = "write what the answer begins with, or type = \"tcp\"";
        problems.add(expect.at.clone(), "every answer begins with nothing", help);
        return None;
    }
    Some(ProbeScript::own(send.as_bytes(), expect.value.as_bytes()))
}

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const TEXT_BYTES_MAX: usize = 1024;

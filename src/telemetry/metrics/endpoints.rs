//! What is counted for each endpoint of each cluster.
//!
//! Labels are the configured name and the address: a cluster has at most 1,024 of them.

use std::fmt;

use super::encode::{Families, Name};
use crate::config::plan::Cluster;
use crate::core::health::Opinion;
use crate::sys::clock;
use crate::worker::{EndpointCounters, EndpointHealth, Member, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, families: &mut Families<'_, '_>) -> fmt::Result {
    for (name, help, value) in COUNTERS {
        let mut family = families.counter(name, help)?;
        each(snapshot, |labels, member| family.sample(labels, member.series.sum(value)))?;
    }
    let now = clock::unix_now();
    let mut ejected =
        families.gauge("portcullis_endpoint_ejected", "Workers that have ejected the endpoint")?;
    each(snapshot, |labels, member| {
        let ejected_now = |it: &EndpointCounters| u64::from(it.ejected_until.value() > now);
        ejected.sample(labels, member.series.sum(ejected_now))
    })?;
    let mut healthy =
        families.gauge("portcullis_endpoint_healthy", "0: probes found the endpoint unhealthy")?;
    probed(snapshot, |labels, health| {
        let is_healthy = health.opinion() != Opinion::Unhealthy;
        healthy.sample(labels, u64::from(is_healthy))
    })?;
    let mut probes = families.counter("portcullis_endpoint_probes", "Probes of the endpoint")?;
    probed(snapshot, |labels, health| probes.sample(labels, health.probes()))?;
    let mut failures =
        families.counter("portcullis_endpoint_probe_failures", "Probes that found it bad")?;
    probed(snapshot, |labels, health| failures.sample(labels, health.failures()))?;
    let mut active = families.gauge(
        "portcullis_endpoint_active",
        "Connections to the endpoint open: carrying a session, ready, or being dialled",
    )?;
    each(snapshot, |labels, member| {
        active.sample(labels, member.series.sum(|it| it.active.value()))
    })
}

/// The endpoints of clusters that are probed.
fn probed(
    snapshot: &Snapshot,
    mut show: impl FnMut(&[(&str, &str)], &EndpointHealth) -> fmt::Result,
) -> fmt::Result {
    of_clusters(snapshot, |it| it.health.is_some(), |labels, member| show(labels, &member.health))
}

fn each(
    snapshot: &Snapshot,
    show: impl FnMut(&[(&str, &str)], &Member) -> fmt::Result,
) -> fmt::Result {
    of_clusters(snapshot, |_| true, show)
}

fn of_clusters(
    snapshot: &Snapshot,
    is_shown: impl Fn(&Cluster) -> bool,
    mut show: impl FnMut(&[(&str, &str)], &Member) -> fmt::Result,
) -> fmt::Result {
    let clusters = snapshot.plan.clusters.iter().zip(snapshot.directories());
    for (cluster, directory) in clusters.filter(|(cluster, _)| is_shown(cluster)) {
        let name = Name::new(&cluster.name);
        for member in &directory.endpoints().members {
            let address = member.address.to_string();
            show(&[("cluster", name.as_str()), ("endpoint", &address)], member)?;
        }
    }
    Ok(())
}

type Family = (&'static str, &'static str, fn(&EndpointCounters) -> u64);

const COUNTERS: &[Family] = &[
    ("portcullis_endpoint_dials", "Connections to the endpoint tried", |it| it.dialled.value()),
    ("portcullis_endpoint_dial_failures", "Connections to the endpoint tried in vain", |it| {
        it.dial_failures.value()
    }),
    ("portcullis_endpoint_ejections", "Times that a worker has ejected the endpoint", |it| {
        it.ejections.value()
    }),
];

//! What is counted for each endpoint of each cluster.
//!
//! Labels are the configured name and the address: a cluster has at most 1,024 of them.

use std::fmt;

use super::encode::{Families, Name};
use crate::sys::clock;
use crate::worker::{EndpointCounters, EndpointSeries, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, families: &mut Families<'_, '_>) -> fmt::Result {
    for (name, help, value) in COUNTERS {
        let mut family = families.counter(name, help)?;
        each(snapshot, |labels, series| family.sample(labels, series.sum(value)))?;
    }
    let now = clock::unix_now();
    let mut ejected =
        families.gauge("portcullis_endpoint_ejected", "Workers that have ejected the endpoint")?;
    each(snapshot, |labels, series| {
        ejected.sample(labels, series.sum(|it| u64::from(it.ejected_until.value() > now)))
    })?;
    let mut active = families.gauge(
        "portcullis_endpoint_active",
        "Connections to the endpoint open: carrying a session, ready, or being dialled",
    )?;
    each(snapshot, |labels, series| active.sample(labels, series.sum(|it| it.active.value())))
}

fn each(
    snapshot: &Snapshot,
    mut show: impl FnMut(&[(&str, &str)], &EndpointSeries) -> fmt::Result,
) -> fmt::Result {
    for (cluster, directory) in snapshot.plan.clusters.iter().zip(snapshot.directories()) {
        let name = Name::new(&cluster.name);
        for member in &directory.endpoints().members {
            let address = member.address.to_string();
            show(&[("cluster", name.as_str()), ("endpoint", &address)], &member.series)?;
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

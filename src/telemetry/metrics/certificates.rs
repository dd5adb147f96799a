//! Until when the gateway's own files are good, and what is in memory of its directories.
//!
//! One series for each file that the configuration names, by the place that names it: a bundle of a
//! hundred anchors shows the one that ends first. Names of certificates are never labels.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::encode::{Families, Name};
use crate::tls::{DirectoryNote, Material, NoteKind};

pub(super) fn encode(
    material: &Material,
    now: u64,
    families: &mut Families<'_, '_>,
) -> fmt::Result {
    let directories: Vec<DirectoryNote> = material.directories(now).collect();
    let mut ends = BTreeMap::<(NoteKind, &str), u64>::new();
    let mut note = |kind, owner, end: u64| {
        ends.entry((kind, owner)).and_modify(|known| *known = end.min(*known)).or_insert(end);
    };
    for one in material.certificates() {
        note(one.kind, &one.owner, one.not_after);
    }
    for one in &directories {
        if let Some((_, end)) = one.earliest {
            note(NoteKind::Server, &one.owner, end);
        }
    }
    let mut expiry = families.gauge(
        "portcullis_certificate_expiry_timestamp_seconds",
        "Unix time when a file of certificates, a revocation list or a staple is over",
    )?;
    for ((kind, owner), end) in &ends {
        let name = Name::new(owner);
        expiry.sample(&[("kind", kind.name()), ("name", name.as_str())], *end)?;
    }
    let mut days = families
        .gauge("portcullis_certificate_expiry_days", "Days until then; below zero, since then")?;
    for ((kind, owner), end) in &ends {
        let name = Name::new(owner);
        let left = Duration::from_secs(end.abs_diff(now)).as_secs_f64() / DAY_SECONDS;
        let left = if *end < now { -left } else { left };
        days.sample(&[("kind", kind.name()), ("name", name.as_str())], left)?;
    }
    let mut pairs = families
        .gauge("portcullis_certificate_dir_pairs", "Pairs of a certificate_dir, by state")?;
    for one in &directories {
        let name = Name::new(&one.owner);
        for (state, count) in
            [("known", one.pairs), ("loaded", one.loaded), ("unusable", one.unusable)]
        {
            let labels = [("name", name.as_str()), ("state", state)];
            pairs.sample(&labels, u64::try_from(count).unwrap_or(u64::MAX))?;
        }
    }
    let mut loads = families
        .counter("portcullis_certificate_dir_loads", "Pairs of a certificate_dir read from disk")?;
    for one in &directories {
        let name = Name::new(&one.owner);
        loads.sample(&[("name", name.as_str())], one.loads)?;
    }
    Ok(())
}

const DAY_SECONDS: f64 = 86_400.0;

//! What a node runs on, as digests: nodes of a fleet that should be alike show the same, and one query
//! finds those that do not.
//!
//! By the place in the configuration, as `certificates` has it. A `certificate_dir` is not among them.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::encode::{Families, Name};
use crate::tls::stek::{StekOrigin, StekStatus};
use crate::tls::{NoteKind, StekKeys};
use crate::worker::Snapshot;

pub(super) fn encode(
    snapshot: &Snapshot,
    stek: &StekKeys,
    families: &mut Families<'_, '_>,
) -> fmt::Result {
    let mut content = families
        .info("portcullis_content", "What this node runs on, by the digest of its content")?;
    let mut show = |kind: &str, name: &str, digest: &[u8]| {
        let name = Name::new(name);
        content.sample(&[("kind", kind), ("name", name.as_str()), ("digest", &hex(digest))])
    };
    show("configuration", "", &snapshot.plan.digest)?;
    for ((kind, owner), digest) in files(snapshot) {
        show(kind.name(), owner, digest.finish().as_ref())?;
    }
    for trust in snapshot.material.trusts() {
        show("trust", &trust.name, trust.digest())?;
    }
    if let Some(digest) = stek.fingerprint() {
        show("ticket_keys", "session_tickets", &digest)?;
    }
    let mut keys = families.info("portcullis_ticket_key", "Ticket keys that this node holds")?;
    for StekStatus { id, role, origin, epoch: _ } in stek.status() {
        let source = match origin {
            StekOrigin::Auto => "auto",
            StekOrigin::Root => "root",
            StekOrigin::File { .. } => "keys",
        };
        keys.sample(&[("id", &id.to_string()), ("role", role.name()), ("source", source)])?;
    }
    Ok(())
}

/// One digest for each file that the configuration names: of all in it, in their order.
fn files(snapshot: &Snapshot) -> BTreeMap<(NoteKind, &str), Context> {
    let mut files = BTreeMap::new();
    for note in snapshot.material.certificates() {
        let digest = files.entry((note.kind, &*note.owner));
        digest.or_insert_with(|| Context::new(&SHA256)).update(&note.digest);
    }
    files
}

/// Half of it tells contents apart, as those of anchors.
fn hex(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

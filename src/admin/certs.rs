//! `/certs`: until when every certificate, revocation list and staple of the gateway is good, as JSON.
//!
//! Public facts only: names, places, times. No key is shown, nor where one lies.

use serde_json::{Value, json};

use crate::core::expiry::days_left;
use crate::tls::{CertificateNote, DirectoryNote};
use crate::worker::Snapshot;

/// The page, for `now` in Unix seconds.
pub(super) fn page(snapshot: &Snapshot, now: u64) -> String {
    let material = &snapshot.material;
    let certificates: Vec<Value> =
        material.certificates().map(|note| certificate(note, now)).collect();
    let directories: Vec<Value> =
        material.directories(now).map(|note| directory(&note, now)).collect();
    let page = json!({ "now": now, "generation": snapshot.generation, "certificates": certificates, "directories": directories });
    format!("{page:#}\n")
}

pub(super) fn certificate(note: &CertificateNote, now: u64) -> Value {
    let identity = note.identity.as_ref();
    json!({
        "kind": note.kind.name(),
        "name": note.owner,
        "file": note.path.display().to_string(),
        "number": note.number,
        "sha256": note.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "subject": note.subject,
        "sans": identity.map(|one| &one.sans),
        "issuer": identity.map(|one| &one.issuer),
        "serial": identity.map(|one| &one.serial),
        "revoked": note.entries,
        "not_before": note.not_before,
        "not_after": note.not_after,
        "days_left": days_left(note.not_after, now),
    })
}

fn directory(note: &DirectoryNote, now: u64) -> Value {
    let earliest = note.earliest.as_ref().map(|(file, not_after)| {
        json!({
            "file": file.display().to_string(),
            "not_after": not_after,
            "days_left": days_left(*not_after, now),
        })
    });
    json!({
        "name": note.owner,
        "directory": note.path.display().to_string(),
        "pairs": note.pairs,
        "loaded": note.loaded,
        "unusable": note.unusable,
        "earliest": earliest,
    })
}

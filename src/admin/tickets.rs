//! `/tickets`: which ticket keys this node holds, and what each is for, as JSON. No secret is shown.

use serde_json::{Value, json};

use crate::tls::StekKeys;
use crate::tls::stek::{StekOrigin, StekStatus};

/// The page, for `now` in Unix seconds.
pub(super) fn page(keys: &StekKeys, now: u64) -> String {
    let status: Vec<Value> = keys.status().iter().map(key).collect();
    let digest = keys.fingerprint().map(|digest| hex(&digest));
    let page = json!({ "now": now, "digest": digest, "keys": status });
    format!("{page:#}\n")
}

fn key(status: &StekStatus) -> Value {
    let (source, file) = match &status.origin {
        StekOrigin::Auto => ("auto", None),
        StekOrigin::Root => ("root", None),
        StekOrigin::File { file, .. } => ("keys", Some(file.display().to_string())),
    };
    let epoch = status.epoch.as_ref();
    json!({
        "id": status.id.to_string(),
        "role": status.role.name(),
        "source": source,
        "file": file,
        "seals_from": epoch.map(|epoch| epoch.seals_from),
        "seals_until": epoch.map(|epoch| epoch.seals_until),
        "opens_until": epoch.map(|epoch| epoch.opens_until),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! What a configuration becomes for the targets of the TLS layer: its keys, certificates and trusts, loaded.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use portcullis::config::load_text;
use portcullis::tls::{Material, StekKeys};

/// All that `text` names.
pub fn material(text: &str) -> Material {
    let plan = load_text(text, Path::new("/nowhere/fuzz.toml")).unwrap();
    let hour = Duration::from_secs(3600);
    let stek = Arc::new(StekKeys::random(hour, hour, now()).unwrap());
    Material::load(&plan, &stek, 1, now, None).unwrap()
}

/// In Unix seconds.
pub fn now() -> u64 {
    portcullis_kit::wall_now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

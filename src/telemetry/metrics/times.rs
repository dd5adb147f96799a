//! How long things take: histograms with fixed bounds, summed over the workers.

use std::fmt;

use super::encode::{Families, Name};
use crate::worker::CounterTable;

pub(super) fn encode(counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
    let mut handshakes = families.histogram(
        "portcullis_handshake_seconds",
        "From the whole hello to the end of a handshake with a client that went through",
    )?;
    for series in counters.shown_listeners() {
        let name = Name::new(&series.name);
        let labels = |resumed| [("listener", name.as_str()), ("resumed", resumed)];
        handshakes.sample(&labels("false"), series.each().map(|it| &it.full_handshake))?;
        handshakes.sample(&labels("true"), series.each().map(|it| &it.resumed_handshake))?;
    }
    let mut lives = families.histogram(
        "portcullis_connection_life_seconds",
        "From accept to the end of a connection, refused ones included",
    )?;
    for series in counters.shown_listeners() {
        let name = Name::new(&series.name);
        lives.sample(&[("listener", name.as_str())], series.each().map(|it| &it.life))?;
    }
    let mut answers = families.histogram(
        "portcullis_upstream_first_byte_seconds",
        "From a client joined to an upstream to the first byte that the upstream sent",
    )?;
    for series in counters.shown_clusters() {
        let name = Name::new(&series.name);
        answers.sample(&[("cluster", name.as_str())], series.each().map(|it| &it.first_byte))?;
    }
    Ok(())
}

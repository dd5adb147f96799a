//! Owns the text form of histograms: HdrHistogram's V2 encoding, deflated, in base64, which its
//! other implementations and their plotters read (`HISTFAAA…`). Read `result.rs` next.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The text of a histogram.
///
/// # Errors
/// Counts beyond 2^63, which no run reaches.
pub fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| anyhow::anyhow!("cannot encode a histogram: {error:?}"))?;
    Ok(STANDARD.encode(bytes))
}

/// The histogram of a text.
///
/// # Errors
/// Text that is not such an encoding.
pub fn decode(text: &str) -> Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text).context("a histogram is not base64")?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| anyhow::anyhow!("cannot decode a histogram: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::histogram;

    #[test]
    fn a_histogram_survives_its_text() {
        let mut before = histogram();
        for value in 1..5000 {
            before.record(value * 7).unwrap();
        }
        let text = encode(&before).unwrap();
        // The cookie that other implementations look for.
        assert!(text.starts_with("HISTFAAA"), "{text}");
        assert_eq!(decode(&text).unwrap(), before);
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(decode("!").is_err());
        assert!(decode("AAAA").is_err());
    }
}

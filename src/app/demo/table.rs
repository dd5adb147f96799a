//! The result of the demonstration: a table for people, and the list of what was not as promised.

use std::fmt::Write;

use super::load::Handshakes;
use super::{Figures, Refused};

/// What went wrong, one line each; empty if everything was as promised.
pub(crate) fn verdict(figures: &[Figures], refused: &[Refused]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Figures { tenant, full, resumed, bulk } in figures {
        let name = tenant.server_name;
        for (kind, counts) in [("full", full), ("resumed", resumed)] {
            if counts.failed > 0 {
                let error = counts.error.as_deref().unwrap_or("no error was kept");
                wrong.push(format!("{name}: {} {kind} handshakes failed: {error}", counts.failed));
            }
        }
        if full.full == 0 {
            wrong.push(format!("{name}: not one full handshake"));
        }
        if full.resumed > 0 {
            wrong.push(format!("{name}: {} sessions resumed without a ticket", full.resumed));
        }
        if resumed.resumed == 0 {
            wrong.push(format!("{name}: not one session was resumed"));
        }
        if let Some(error) = &bulk.error {
            wrong.push(format!("{name}: the stream: {error}"));
        }
    }
    for Refused { who, alert, reason } in refused {
        if alert.is_none() {
            wrong.push(format!("{who} was let in"));
        }
        if reason.is_none() {
            wrong.push(format!("{who}: the gateway wrote down no reason"));
        }
    }
    wrong
}

pub(crate) fn render(figures: &[Figures], refused: &[Refused], wrong: &[String]) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = table(&mut text, figures).and_then(|()| rest(&mut text, refused, wrong));
    text
}

fn table(text: &mut String, figures: &[Figures]) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<13} {:<14} {:>14} {:>17} {:>9} {:>16}",
        "tenant", "way", "full", "resumed", "resumed", "stream"
    )?;
    for Figures { tenant, full, resumed, bulk } in figures {
        let seconds = bulk.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let mebibytes = bulk.bytes >> 20;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a figure to be read, not to be reckoned with"
        )]
        let rate = mebibytes as f64 / seconds;
        writeln!(
            text,
            "{:<13} {:<14} {:>12}/s {:>15}/s {:>8}% {:>11.0} MB/s",
            tenant.server_name,
            tenant.short,
            per_second(full.full, full),
            per_second(resumed.resumed, resumed),
            share(resumed),
            rate * 1.048_576,
        )?;
    }
    writeln!(
        text,
        "Each handshake is proved by a byte that the upstream sent back, each stream by its SHA-256;\n\
         clients, upstreams and gateway share this machine, so these are no rates to quote.\n"
    )
}

fn rest(text: &mut String, refused: &[Refused], wrong: &[String]) -> std::fmt::Result {
    for Refused { who, alert, reason } in refused {
        writeln!(text, "{who}")?;
        writeln!(text, "  the client saw   {}", alert.as_deref().unwrap_or("an open door"))?;
        writeln!(text, "  the gateway says {}", reason.as_deref().unwrap_or("nothing"))?;
    }
    if wrong.is_empty() {
        return writeln!(text, "\nNothing was lost, and nobody was wrongly let in.");
    }
    writeln!(text, "\nNot as promised:")?;
    wrong.iter().try_for_each(|line| writeln!(text, "  {line}"))
}

fn per_second(count: u64, counts: &Handshakes) -> u64 {
    let millis = u64::try_from(counts.took.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1000) / millis
}

/// In percent, of all handshakes that were made with tickets.
fn share(counts: &Handshakes) -> u64 {
    counts.resumed * 100 / (counts.full + counts.resumed).max(1)
}

//! An answer for people: who asks, then for each listener the steps and the verdict.
//!
//! What stands in certificates or on the command line may hold anything; nothing of it reaches the
//! terminal as a command.

use std::fmt::Write as _;

use super::answer::{Answer, Client, Says};
use crate::core::refusal::Refusal;
use crate::core::timestamp::Timestamp;
use crate::telemetry::access_log::is_unsafe;
use crate::tls::{Step, Verdict, Version, alert_name};

/// Appends the answer.
pub(super) fn write(client: &Client, answers: &[Answer<'_>], out: &mut Vec<u8>) {
    let mut text = question(client);
    for answer in answers {
        text.push('\n');
        text.push_str(&answered(answer));
    }
    out.extend_from_slice(text.as_bytes());
}

fn question(client: &Client) -> String {
    let mut text = match &client.says {
        Says::Hello(Some(name)) => format!("a client that asks for {}", shown(name)),
        Says::Hello(None) => "a client that asks for no name".to_owned(),
        Says::PlainText => "a client that sends plain text".to_owned(),
    };
    if !client.alpn.is_empty() {
        text.push_str(&format!(", offers {}", shown(&client.alpn.join(" "))));
    }
    if client.is_source_said {
        text.push_str(&format!(", comes from {}", client.source));
    }
    if let Some(version) = client.version {
        text.push_str(&format!(", speaks {} only", Version::name(version)));
    }
    match (client.certificates.len(), client.identity()) {
        (0, _) if matches!(client.says, Says::PlainText) => {}
        (0, _) => text.push_str(", has no certificate"),
        (_, None) => text.push_str(", shows what is no certificate"),
        (count, Some(leaf)) => {
            let more = match count {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            text.push_str(&format!("\nshows {}{more}", shown(&leaf.sentence())));
        }
    }
    if !client.is_now {
        text.push_str(&format!("\nat {}", Timestamp::from_seconds(client.now)));
    }
    text.push('\n');
    text
}

fn answered(answer: &Answer<'_>) -> String {
    let explanation = &answer.explanation;
    let mut text = format!("listener {}", answer.listener.name);
    if let Some(taken) = answer.taken {
        let (chain, cluster) = (&taken.chain.name, taken.cluster());
        let how = taken.handling.as_str();
        text.push_str(&format!(", chain {chain} ({how}), cluster {cluster}"));
    }
    text.push('\n');
    let width = explanation.steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
    for Step { name, verdict, rule: _, text: found } in &explanation.steps {
        let verdict = word(*verdict);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {verdict:<VERDICT_WIDTH$}  {name:<width$}  {}", shown(found));
    }
    for audit in &explanation.audits {
        let (reason, detail) = (audit.reason.code(), shown(&audit.detail));
        let _ = writeln!(text, "  it is logged and counted as {reason}: {detail}");
    }
    match &explanation.refusal {
        None => text.push_str("it gets in\n"),
        Some(refusal) => text.push_str(&refused(refusal)),
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    let mut text = format!("it is refused: {}", refusal.reason.code());
    let _ = match refusal.alert {
        Some(alert) => writeln!(text, ", and sees alert {alert} ({})", alert_name(alert)),
        None => writeln!(text, ", and sees no alert: the connection just ends"),
    };
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {label:<6}  {}", shown(value));
        }
    };
    let evidence = refusal.evidence.as_deref();
    line("detail", &refusal.detail);
    line("rule", evidence.and_then(|evidence| evidence.rule.as_deref()).unwrap_or_default());
    line("hint", refusal.hint());
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Refused => "refused",
        Verdict::WouldBeRefused => "would be refused",
        Verdict::NotAsked => "not asked",
    }
}

/// Without what a terminal would take for a command.
fn shown(text: &str) -> String {
    text.chars().map(|char| if is_unsafe(char) { '\u{fffd}' } else { char }).collect()
}

const VERDICT_WIDTH: usize = "would be refused".len();

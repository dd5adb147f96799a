//! The keys that a node holds, for people and for programs: ids, roles and times, never a secret.

use serde_json::{Value, json};

use crate::config::plan::{SessionTickets, TicketSource};
use crate::core::timestamp::Timestamp;
use crate::tls::stek::{StekKeys, StekOrigin, StekStatus};

/// A table of the keys below what they come from.
pub(super) fn text(tickets: &SessionTickets, keys: &StekKeys) -> String {
    let mut text = match &tickets.source {
        TicketSource::Auto => "source    auto\n".to_owned(),
        TicketSource::Root(file) => format!("source    root {}\n", file.path.display()),
        TicketSource::Keys(_) => "source    keys\n".to_owned(),
    };
    let Some(digest) = digest(keys) else {
        text.push_str(
            "\nThe keys are drawn at random when a node starts and never leave it: there is nothing \
             to show, and no other node opens its tickets.\n",
        );
        return text;
    };
    text.push_str(&format!("digest    {digest}   the same on every node of a fleet\n"));
    let is_root = matches!(tickets.source, TicketSource::Root(_));
    if is_root {
        text.push_str(&format!("rotate    {} s\n", tickets.rotate.as_secs()));
    }
    text.push_str(&format!("lifetime  {} s\n", tickets.lifetime.as_secs()));
    let last = if is_root { TIMES } else { "FILE" };
    text.push_str(&format!("\n{:<16}  {:<5}  {last}\n", "KEY", "ROLE"));
    for key in keys.status() {
        let last = match (&key.origin, key.epoch) {
            (StekOrigin::File { file, line: 0 }, _) => file.display().to_string(),
            (StekOrigin::File { file, line }, _) => format!("{}:{line}", file.display()),
            (StekOrigin::Auto | StekOrigin::Root, None) => String::new(),
            (StekOrigin::Auto | StekOrigin::Root, Some(epoch)) => {
                let times = [epoch.seals_from, epoch.seals_until, epoch.opens_until];
                times.map(moment).join("  ")
            }
        };
        text.push_str(&format!("{}  {:<5}  {last}\n", key.id, key.role.name()));
    }
    text
}

/// As `text`, one object; moments in RFC 3339.
pub(super) fn json(tickets: &SessionTickets, keys: &StekKeys) -> String {
    let digest = digest(keys);
    // Keys that were drawn for this look are nobody's.
    let held = if digest.is_some() { keys.status() } else { Vec::new() };
    let (kind, files) = match &tickets.source {
        TicketSource::Auto => ("auto", Vec::new()),
        TicketSource::Root(file) => ("root", vec![file]),
        TicketSource::Keys(files) => ("keys", files.iter().collect()),
    };
    let files: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
    let page = json!({
        "source": kind,
        "files": files,
        "digest": digest,
        "rotate_seconds": tickets.rotate.as_secs(),
        "lifetime_seconds": tickets.lifetime.as_secs(),
        "keys": held.iter().map(key).collect::<Vec<_>>(),
    });
    format!("{page:#}\n")
}

/// A moment in UTC, to the second.
pub(super) fn moment(unix: u64) -> String {
    Timestamp::from_seconds(unix).to_string().replace(".000Z", "Z")
}

fn key(status: &StekStatus) -> Value {
    let mut key = json!({ "id": status.id.to_string(), "role": status.role.name() });
    if let Some(epoch) = status.epoch {
        key["epoch"] = epoch.number.into();
        key["seals_from"] = moment(epoch.seals_from).into();
        key["seals_until"] = moment(epoch.seals_until).into();
        key["opens_until"] = moment(epoch.opens_until).into();
    }
    if let StekOrigin::File { file, line } = &status.origin {
        key["file"] = file.display().to_string().into();
        if *line > 0 {
            key["line"] = (*line).into();
        }
    }
    key
}

/// 16 of 64 digits: enough to compare by eye.
fn digest(keys: &StekKeys) -> Option<String> {
    let digest = keys.fingerprint()?;
    Some(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

const TIMES: &str = "SEALS FROM            SEALS UNTIL           OPENS UNTIL";

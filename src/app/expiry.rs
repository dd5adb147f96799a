//! Looks every hour whether a certificate, list or staple of the gateway comes near its end, and says so
//! once for each step: 30 days, 7 days, over.
//!
//! What is near its end when it is loaded was said then, by `tls::pem`. Runs on control.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::core::expiry::Urgency;
use crate::sys::clock;
use crate::tls::{CertificateNote, DirectoryNote, Due, Material, NoteKind};
use crate::worker::Snapshot;

/// Watches what runs for as long as it is polled.
pub async fn watch(current: Arc<ArcSwap<Snapshot>>) {
    let mut watch = Watch::default();
    loop {
        let snapshot = current.load_full();
        for line in watch.look(&snapshot.material, clock::unix_now()) {
            tracing::warn!("{line}");
        }
        drop(snapshot);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What has been said.
#[derive(Debug, Default)]
struct Watch {
    said: HashMap<Key, Urgency>,
    /// By the key of the configuration.
    directories: HashMap<String, Due>,
}

/// One certificate, list or staple; another in its place has another end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: NoteKind,
    path: PathBuf,
    number: usize,
    not_after: u64,
}

impl Watch {
    /// What is to be said at `now`.
    fn look(&mut self, material: &Material, now: u64) -> Vec<String> {
        let mut lines = self.look_at(material.certificates(), now);
        for note in material.directories(now) {
            lines.extend(self.look_at_directory(&note));
        }
        lines
    }

    fn look_at<'a>(
        &mut self,
        notes: impl Iterator<Item = &'a CertificateNote>,
        now: u64,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let mut seen = HashMap::new();
        for note in notes {
            let CertificateNote { kind, path, number, not_after, .. } = note;
            let key =
                Key { kind: *kind, path: path.clone(), number: *number, not_after: *not_after };
            let urgency = note.urgency(now);
            // What is new was loaded since, and loading has said what there is to say.
            let said = self.said.get(&key).copied().unwrap_or(urgency);
            if urgency > said && !seen.contains_key(&key) {
                lines.push(sentence(note, urgency, now));
            }
            seen.insert(key, urgency.max(said));
        }
        self.said = seen;
        lines
    }

    /// Of a directory only numbers: it may hold a hundred thousand.
    fn look_at_directory(&mut self, note: &DirectoryNote) -> Option<String> {
        let Due { soon, urgent, expired } = note.due;
        let said = self.directories.insert(note.owner.clone(), note.due).unwrap_or_default();
        let is_news = expired > said.expired || urgent > said.urgent || soon > said.soon;
        let (file, _) = note.earliest.as_ref().filter(|_| is_news)?;
        Some(format!(
            "{}: of the {} certificates in memory {expired} have expired, {urgent} expire within 7 \
             days and {soon} within 30; the first is {}: renew them, and look at what should have \
             done so",
            note.owner,
            note.loaded,
            file.display()
        ))
    }
}

fn sentence(note: &CertificateNote, urgency: Urgency, now: u64) -> String {
    let CertificateNote { owner, subject, not_after, .. } = note;
    let path = note.path.display();
    let what = match note.kind {
        NoteKind::Server | NoteKind::UpstreamClient => "the certificate",
        NoteKind::ClientCa | NoteKind::UpstreamCa => "the CA certificate",
        NoteKind::Staple => "the OCSP response for the certificate",
        NoteKind::Crl => "the revocation list",
    };
    let (when, help) = match (urgency, note.kind) {
        (Urgency::Expired, NoteKind::Crl) => (
            "is out of date".to_owned(),
            "fetch the current one: revocation.stale of the trust says what happens until then",
        ),
        (Urgency::Expired, NoteKind::Staple) => {
            ("is out of date and is no longer shown".to_owned(), "fetch the current one")
        }
        (Urgency::Expired, _) => {
            ("has expired".to_owned(), "renew it, or check this machine's clock")
        }
        (_, NoteKind::Crl | NoteKind::Staple) => (
            format!("is good for {} only", span(not_after.saturating_sub(now))),
            "look at what should have fetched the next one",
        ),
        (_, _) => (
            format!("expires in {}", span(not_after.saturating_sub(now))),
            "renew it, and look at what should have done so",
        ),
    };
    format!("{owner}: {what} of {subject} in {path} {when}: {help}")
}

fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600) {
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

const INTERVAL: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn note(kind: NoteKind, not_after: u64) -> CertificateNote {
        CertificateNote {
            kind,
            owner: "tls.downstream.edge.certificates[0]".to_owned(),
            path: "/etc/edge.crt".into(),
            number: 1,
            subject: "CN=edge".to_owned(),
            digest: [0; 32],
            identity: None,
            not_before: 0,
            not_after,
            entries: None,
        }
    }

    fn lines(watch: &mut Watch, notes: &[CertificateNote], now: u64) -> Vec<String> {
        watch.look_at(notes.iter(), now)
    }

    #[test]
    fn each_step_is_said_once_and_names_file_subject_days_and_remedy() {
        let mut watch = Watch::default();
        let notes = [note(NoteKind::Server, 100 * DAY)];
        for (day, says) in [
            (0, None),
            (69, None),
            (71, Some("expires in 29 days")),
            (72, None),
            (92, None),
            (94, Some("expires in 6 days")),
            (99, None),
            (101, Some("has expired")),
            (102, None),
            // A clock that was set back and on again.
            (50, None),
            (101, None),
        ] {
            let told = lines(&mut watch, &notes, day * DAY);
            assert_eq!(told.len(), usize::from(says.is_some()), "day {day}: {told:?}");
            for line in told {
                let says = says.unwrap_or_default();
                for part in ["tls.downstream.edge.certificates[0]", "CN=edge", "/etc/edge.crt"] {
                    assert!(line.contains(part), "{line}");
                }
                assert!(line.contains(says) && line.contains("renew it"), "{line}");
            }
        }
    }

    #[test]
    fn a_renewed_certificate_is_watched_anew_and_the_first_look_is_silent() {
        let mut watch = Watch::default();
        assert!(
            lines(&mut watch, &[note(NoteKind::Server, 5 * DAY)], 0).is_empty(),
            "load says it"
        );
        let renewed = [note(NoteKind::Server, 400 * DAY)];
        assert!(lines(&mut watch, &renewed, DAY).is_empty());
        assert_eq!(lines(&mut watch, &renewed, 371 * DAY).len(), 1);
        assert_eq!(watch.said.len(), 1, "what is gone is forgotten");
    }

    #[test]
    fn a_file_that_two_tables_name_is_told_of_once() {
        let mut watch = Watch::default();
        let notes = [note(NoteKind::Server, 100 * DAY), note(NoteKind::Server, 100 * DAY)];
        lines(&mut watch, &notes, 0);
        assert_eq!(lines(&mut watch, &notes, 80 * DAY).len(), 1);
    }

    #[test]
    fn lists_and_staples_are_told_of_in_their_last_tenth() {
        for (kind, word) in [(NoteKind::Crl, "list"), (NoteKind::Staple, "OCSP response")] {
            let mut watch = Watch::default();
            let notes = [note(kind, 10 * DAY)];
            assert!(lines(&mut watch, &notes, 0).is_empty());
            assert!(lines(&mut watch, &notes, 8 * DAY).is_empty());
            let told = lines(&mut watch, &notes, 9 * DAY + 3_600);
            assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
            assert!(told[0].contains("good for 23 hours only"), "{told:?}");
            let told = lines(&mut watch, &notes, 11 * DAY);
            assert!(told.len() == 1 && told[0].contains("out of date"), "{told:?}");
        }
    }

    #[test]
    fn of_a_directory_only_more_than_before_is_told() {
        let mut watch = Watch::default();
        let mut note = DirectoryNote {
            owner: "tls.downstream.edge.certificate_dir".to_owned(),
            path: "/certs".into(),
            pairs: 9,
            loaded: 3,
            unusable: 0,
            loads: 3,
            earliest: Some(("/certs/a.test.crt".into(), 7)),
            due: Due::default(),
        };
        for (due, is_told) in [
            (Due::default(), false),
            (Due { soon: 2, ..Due::default() }, true),
            (Due { soon: 2, ..Due::default() }, false),
            (Due { soon: 1, urgent: 1, expired: 0 }, true),
            (Due { soon: 0, urgent: 1, expired: 0 }, false),
            (Due { soon: 0, urgent: 0, expired: 1 }, true),
        ] {
            note.due = due;
            let line = watch.look_at_directory(&note);
            assert_eq!(line.is_some(), is_told, "{line:?}");
            assert!(line.is_none_or(|line| line.contains("/certs/a.test.crt")));
        }
    }
}

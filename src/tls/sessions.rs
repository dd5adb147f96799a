//! The sessions that a dialler may resume: tickets of TLS 1.3, each spent once (RFC 8446 §C.4), the last
//! session of TLS 1.2, and the key exchange group that a server took, by server name.
//!
//! A store holds `TICKETS_MAX` tickets, whoever they are for. Most endpoints have one name, and clients
//! come in bursts: as many dials as there are tickets are resumed at once. rustls' own store holds eight
//! for a name. A dialler is one worker's, so the lock is never waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// Of one dialler.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    names: Mutex<Servers>,
}

type Servers = Names<ServerName<'static>, Tls12ClientSessionValue, Tls13ClientSessionValue>;

/// By name, the last one used at the end.
#[derive(Debug)]
struct Names<N, S, T> {
    known: VecDeque<Known<N, S, T>>,
    /// Of all names.
    tickets: usize,
}

/// What is known of one name.
#[derive(Debug)]
struct Known<N, S, T> {
    name: N,
    group: Option<NamedGroup>,
    session: Option<S>,
    /// The oldest first.
    tickets: VecDeque<T>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().used(server_name).group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().find(|name| name == server_name)?.group
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().used(server_name).session = Some(value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().find(|name| name == server_name)?.session.clone()
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(known) = self.lock().find(|name| name == server_name) {
            known.session = None;
        }
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.lock().insert(server_name, value);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.lock().take(|name| name == server_name)
    }
}

impl<N: PartialEq, S, T> Names<N, S, T> {
    fn find(&mut self, is_it: impl Fn(&N) -> bool) -> Option<&mut Known<N, S, T>> {
        self.known.iter_mut().rev().find(|known| is_it(&known.name))
    }

    /// What is known of a name that is in use; the name that was used longest ago is given up for a new
    /// one where there are too many.
    fn used(&mut self, name: N) -> &mut Known<N, S, T> {
        let at = self.known.iter().rposition(|known| known.name == name);
        let known = at.and_then(|at| self.known.remove(at));
        if known.is_none() && self.known.len() >= NAMES_MAX {
            let given_up = self.known.pop_front();
            self.tickets -= given_up.map_or(0, |known| known.tickets.len());
        }
        let new = || Known { name, group: None, session: None, tickets: VecDeque::new() };
        self.known.push_back_mut(known.unwrap_or_else(new))
    }

    /// Gives up the oldest ticket of the name that was used longest ago, where there are too many.
    fn insert(&mut self, name: N, ticket: T) {
        self.used(name).tickets.push_back(ticket);
        self.tickets += 1;
        if self.tickets > TICKETS_MAX {
            let oldest = self.known.iter_mut().find_map(|known| known.tickets.pop_front());
            self.tickets -= usize::from(oldest.is_some());
        }
    }

    /// The newest: an old one may outlive the server's key.
    fn take(&mut self, is_it: impl Fn(&N) -> bool) -> Option<T> {
        let ticket = self.find(is_it)?.tickets.pop_back()?;
        self.tickets -= 1;
        Some(ticket)
    }
}

impl<N, S, T> Default for Names<N, S, T> {
    fn default() -> Self {
        Self { known: VecDeque::new(), tickets: 0 }
    }
}

/// Server names of one endpoint: one, unless it is "$sni".
const NAMES_MAX: usize = 32;
/// A ticket is some hundred bytes and holds on to the server's chain: 100 KiB, and at most 512.
const TICKETS_MAX: usize = 32;

/// Of one NewSessionTicket of TLS 1.3, which may have 64 KiB (RFC 8446 §4.6.1): longer ones are not kept. Servers
/// put our certificates in, of which a chain may have several.
pub(super) const TICKET_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    type Numbered = Names<&'static str, (), usize>;

    #[test]
    fn each_ticket_is_spent_once_and_the_newest_first() {
        let mut names = Numbered::default();
        for ticket in 1..=3 {
            names.insert("a", ticket);
        }
        names.insert("b", 4);
        let taken: Vec<_> = std::iter::from_fn(|| names.take(|name| *name == "a")).collect();
        assert_eq!(taken, [3, 2, 1]);
        assert_eq!(
            (names.take(|name| *name == "c"), names.take(|name| *name == "b"), names.tickets),
            (None, Some(4), 0)
        );
    }

    #[test]
    fn one_name_may_have_all_tickets_and_gives_them_up_for_another() {
        let mut names = Numbered::default();
        for ticket in 0..TICKETS_MAX + 5 {
            names.insert("a", ticket);
        }
        assert_eq!(names.tickets, TICKETS_MAX);
        names.insert("b", 1000);
        assert_eq!(
            (names.tickets, names.find(|name| *name == "a").unwrap().tickets.front()),
            (TICKETS_MAX, Some(&6))
        );
        // "a" comes into use again, so "b" is the older one.
        names.insert("a", 1001);
        assert_eq!(
            (names.take(|name| *name == "b"), names.take(|name| *name == "a")),
            (None, Some(1001))
        );
        assert_eq!(
            names.tickets,
            names.known.iter().map(|known| known.tickets.len()).sum::<usize>()
        );
    }

    #[test]
    fn a_name_too_many_takes_the_place_of_the_one_used_longest_ago() {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut names: Names<String, (), usize> = Names::default();
        for name in NAMES {
            names.insert(name.to_owned(), 1);
        }
        for number in NAMES.len()..NAMES_MAX {
            names.used(number.to_string());
        }
        names.used("a".to_owned()).group = Some(NamedGroup::X25519);
        names.used("new".to_owned());
        assert_eq!((names.known.len(), names.tickets), (NAMES_MAX, NAMES.len() - 1));
        assert!(names.find(|name| *name == "b").is_none());
        assert_eq!(names.find(|name| *name == "a").unwrap().group, Some(NamedGroup::X25519));
    }
}

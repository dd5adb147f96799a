//! Owns the tickets that a load thread has received, and decides whether the connection at hand
//! may spend one. rustls asks its session store by server name alone; here the thread says first
//! whose turn it is, so that one `ClientConfig` serves any number of clients. A TLS 1.3 ticket is
//! spent once (RFC 8446 §C.4). Never chooses who resumes: `worker.rs` does. Read `tls_client.rs`
//! next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// Whose tickets are used: one number for each combination that may share tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(pub u64);

/// Tickets by holder. One per load thread; the lock is never contended.
#[derive(Debug, Default)]
pub struct TicketPool {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holder: Option<Holder>,
    may_resume: bool,
    tls13: HashMap<Holder, VecDeque<Tls13ClientSessionValue>>,
    tls12: HashMap<Holder, VecDeque<Tls12ClientSessionValue>>,
}

impl TicketPool {
    /// Whatever rustls asks until the next call is on behalf of `holder`; a ticket is handed out
    /// only if `may_resume`.
    pub fn turn(&self, holder: Holder, may_resume: bool) {
        let mut inner = self.lock();
        inner.holder = Some(holder);
        inner.may_resume = may_resume;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for TicketPool {
    // A real client that does not know the server meets its group anew each time; remembering
    // would hide the HelloRetryRequest share that we report.
    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        let mut inner = self.lock();
        if let Some(holder) = inner.holder {
            keep(inner.tls12.entry(holder).or_default(), value);
        }
    }

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let mut inner = self.lock();
        let holder = inner.holder.filter(|_| inner.may_resume)?;
        inner.tls12.get_mut(&holder)?.pop_back()
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        let mut inner = self.lock();
        if let Some(holder) = inner.holder {
            keep(inner.tls13.entry(holder).or_default(), value);
        }
    }

    fn take_tls13_ticket(
        &self,
        _server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        let mut inner = self.lock();
        let holder = inner.holder.filter(|_| inner.may_resume)?;
        // The newest: an old one may outlive the server's key or its own lifetime.
        inner.tls13.get_mut(&holder)?.pop_back()
    }
}

fn keep<T>(tickets: &mut VecDeque<T>, ticket: T) {
    if tickets.len() == TICKETS_PER_HOLDER_MAX {
        tickets.pop_front();
    }
    tickets.push_back(ticket);
}

/// More than ever wait for use: a full handshake brings one, a resumed one replaces its own. A
/// ticket keeps the server's chain alive, so the bound is also one of memory (64 × ~3 KiB).
const TICKETS_PER_HOLDER_MAX: usize = 64;

//! What one handshake knows beyond what rustls passes to its callbacks, and what they found out.
//!
//! rustls calls resolver, verifier and ticketer with no hint which connection they work for. Around
//! every call into rustls `handshake` moves the connection's context into a thread-local cell and out
//! again, on panic too. Outside such a call the cell holds nothing and lookups do nothing.

use std::cell::RefCell;
use std::sync::Arc;

use super::certificate_dir::Answer;
use super::shown::Shown;
use super::standing::Standing;
use super::ticket_nonce::TicketNonce;
use crate::config::plan::Group;
use crate::core::client_hello::Newest;
use crate::core::refusal::Refusal;

/// The facts of one handshake.
#[derive(Debug, Default)]
pub(super) struct HandshakeContext {
    /// The SNI by which the peek chose the chain; `None` on the upstream side.
    pub expected_name: Option<ExpectedName>,
    /// The version of the client's hello; `None` on the upstream side.
    pub newest: Option<Newest>,
    /// The key-exchange group that the client is to get; `None`: whichever rustls takes.
    pub group: Option<Group>,
    /// What was found for the client's name in a `certificate_dir`.
    pub certificate: Option<Answer>,
    /// The first thing that a callback found wrong; rustls' own error is coarser.
    pub failure: Option<Refusal>,
    /// What would have been refused, by a trust that only audits.
    pub audit: Option<Refusal>,
    /// Whether the chain was verified from memory; `None` where none was.
    pub memo: Option<Memo>,
    /// An upstream has asked for our certificate; what became of it, in words.
    pub asked: Option<Arc<str>>,

    /// Set by the resolver: the certificate of ours that the client gets.
    pub shown: Option<Shown>,
    /// Set by the verifier: this handshake authenticated the client afresh.
    pub verified: Option<Standing>,
    /// Set by the ticketer: what the last good ticket says. Dropped unless rustls resumes with it.
    pub ticket: Option<Standing>,
    /// What became of the nonce of the client's first ticket.
    pub ticket_nonce: TicketNonce,
    /// Tickets tried; each costs one AEAD (threat 19).
    pub tickets_tried: u8,
}

/// What the resolver compares rustls' SNI with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpectedName {
    None,
    Name(Box<str>),
}

/// How a chain was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memo {
    Hit,
    Miss,
}

impl HandshakeContext {
    /// Keeps the first failure: what comes later follows from it.
    pub(super) fn fail(&mut self, refusal: Refusal) {
        self.failure.get_or_insert(refusal);
    }
}

/// Runs `work` with `context` as the one of this thread.
pub(super) fn enter<R>(context: &mut HandshakeContext, work: impl FnOnce() -> R) -> R {
    let _occupied = Occupied::new(context);
    work()
}

/// Looks at the context of the running handshake; `None` when there is none.
pub(super) fn with<R>(look: impl FnOnce(&mut HandshakeContext) -> R) -> Option<R> {
    CURRENT.with(|cell| match cell.try_borrow_mut() {
        Ok(mut slot) => slot.as_mut().map(look),
        Err(_) => None,
    })
}

/// Holds the cell for one call; gives the context back when dropped, by a panic too.
struct Occupied<'a> {
    home: &'a mut HandshakeContext,
}

impl<'a> Occupied<'a> {
    fn new(home: &'a mut HandshakeContext) -> Self {
        swap(Some(std::mem::take(home)));
        Self { home }
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        if let Some(context) = swap(None) {
            *self.home = context;
        }
    }
}

fn swap(next: Option<HandshakeContext>) -> Option<HandshakeContext> {
    CURRENT.with(|cell| match cell.try_borrow_mut() {
        Ok(mut slot) => std::mem::replace(&mut *slot, next),
        Err(_) => None,
    })
}

thread_local! {
    static CURRENT: RefCell<Option<HandshakeContext>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::refusal::Reason;

    #[test]
    fn context_comes_back_after_a_panic_and_the_cell_is_empty() {
        let mut context = HandshakeContext { tickets_tried: 3, ..HandshakeContext::default() };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            enter(&mut context, || {
                with(|found| found.tickets_tried += 1);
                panic!("as a callback might");
            });
        }));
        assert!(result.is_err());
        assert_eq!(context.tickets_tried, 4);
        assert!(with(|_| ()).is_none());
    }

    #[test]
    fn the_first_failure_is_kept() {
        let mut context = HandshakeContext::default();
        context.fail(Refusal::new(Reason::UnknownIssuer, "first"));
        context.fail(Refusal::new(Reason::Internal, "second"));
        assert_eq!(context.failure.map(|failure| failure.detail).as_deref(), Some("first"));
    }
}

//! What some protocols say before the hello: how a client asks for TLS, and what it is answered.
//!
//! `postgres` is the client's side of a listener, `upstream` how we ask a server. Both take all the
//! bytes that are there and say what to do; neither sends, receives or waits.

pub mod postgres;
pub mod upstream;

/// Whose custom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prelude {
    /// SSLRequest and its like (PostgreSQL's documentation, "Message Flow": SSL Session Encryption).
    Postgres,
}

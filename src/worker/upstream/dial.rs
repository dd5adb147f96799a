//! Opening a TCP connection to an endpoint, from one of the sources that are configured.

use std::future::poll_fn;
use std::net::SocketAddr;

use super::sources::Sources;
use crate::config::plan::Io;
use crate::core::refusal::{Reason, Refusal};
use crate::sys::shortage;
use crate::sys::socket::{self, DialError, Dialled, Opening};
use crate::worker::socket::{Socket, Way};
use crate::worker::stream;

/// A TCP connection to `address` that has been sent the bytes of `opening`.
pub(super) async fn connect(
    io: Io,
    address: SocketAddr,
    sources: &Sources,
    opening: Opening<'_>,
) -> Result<Socket, Refusal> {
    let failed = |error: std::io::Error| failure(&error, address);
    let Dialled { socket, is_through, sent } = begin(address, sources, opening)?;
    let mut stream = if is_through {
        Socket::new(io, socket).map_err(failed)?
    } else {
        let mut stream = Socket::connecting(io, socket).map_err(failed)?;
        poll_fn(|cx| stream.poll_ready(Way::Send, cx)).await.map_err(failed)?;
        socket::take_error(&stream).map_err(failed)?;
        stream
    };
    if let Opening::Bytes(first) = opening {
        stream::send_all(&mut stream, &first[sent..]).await.map_err(failed)?;
    }
    Ok(stream)
}

/// A socket that is connecting, from the next source that has a port for it.
fn begin(address: SocketAddr, sources: &Sources, opening: Opening<'_>) -> Result<Dialled, Refusal> {
    let mut left = sources.count(address);
    loop {
        let source = sources.next(address);
        let error = match socket::dial(address, source, opening) {
            Ok(dialled) => return Ok(dialled),
            Err(DialError::Other(error)) => return Err(failure(&error, address)),
            Err(error) => error,
        };
        left = left.saturating_sub(1);
        if left == 0 || matches!(error, DialError::ForeignSource) {
            let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
            return Err(Refusal::new(Reason::LocalResources, format!("{address}{from}: {error}")));
        }
    }
}

pub(super) fn failure(error: &std::io::Error, address: SocketAddr) -> Refusal {
    match shortage::remedy(error) {
        Some(remedy) => {
            Refusal::new(Reason::LocalResources, format!("{address}: {error}: {remedy}"))
        }
        None => Refusal::new(Reason::UpstreamConnect, format!("{address}: {error}")),
    }
}

pub(super) fn at_endpoint(mut refusal: Refusal, address: SocketAddr) -> Refusal {
    refusal.detail = format!("{address}: {}", refusal.detail);
    refusal
}

//! The PROXY header of a balancer in front, read before the client's hello: it says who the client is.
//!
//! Whoever the listener lists must send one, and nobody else's is looked at, so that no client says of
//! itself where it comes from (threat 47). `core::proxy_protocol` reads the bytes; next: `hello`.

use std::net::SocketAddr;

use super::connection::{Connection, canonical};
use super::generation::Entrance;
use crate::core::proxy_protocol::{Broken, Header, Origin, Read, read};
use crate::core::refusal::{Reason, Refusal};

/// Through whom a client came.
#[derive(Debug)]
pub(super) struct Proxied {
    /// The balancer.
    pub(super) by: SocketAddr,
    /// What the client connected to, where the balancer can say it.
    pub(super) destination: Option<SocketAddr>,
}

impl Connection {
    /// Receives a header where the source must send one, and takes the client's address from it. What
    /// came behind it stays. The caller bounds the time.
    ///
    /// # Errors
    /// When there is no header, or one that cannot be read.
    pub(super) async fn read_proxy_header(&mut self, entrance: &Entrance) -> Result<(), Refusal> {
        let from = &entrance.plan().proxied_from;
        if !from.iter().any(|prefix| prefix.contains(self.card.source.get().ip())) {
            return Ok(());
        }
        loop {
            let received = self.down.fill(&self.worker).await;
            let held = self.down.partial.len();
            match received {
                Ok(1..) => {}
                Ok(0) if held == 0 => return Err(Refusal::new(Reason::Probe, "no byte was sent")),
                Err(error) if held == 0 => {
                    return Err(Refusal::new(Reason::Probe, format!("no byte was sent: {error}")));
                }
                Ok(0) => return Err(cut(format!("closed after {held} bytes of the header"))),
                Err(error) => return Err(cut(error.to_string())),
            }
            // What is held is bounded: a line or a claimed length beyond its limit is refused with the
            // bytes that show it.
            match read(&self.down.partial) {
                Read::NeedMore => {}
                Read::Header(header) => {
                    self.came_through(header);
                    return Ok(());
                }
                Read::Reject(broken) => return Err(refused(broken, self.card.source.get())),
            }
        }
    }

    fn came_through(&mut self, header: Header) {
        self.down.consume(&self.worker, header.bytes);
        let by = self.card.source.get();
        let destination = match header.origin {
            Origin::Client { source, destination } => {
                self.card.source.set(canonical(source));
                Some(canonical(destination))
            }
            Origin::Sender | Origin::Unknown => None,
        };
        self.proxied = Some(Box::new(Proxied { by, destination }));
    }
}

fn cut(detail: String) -> Refusal {
    Refusal::new(Reason::ProxyHeaderMalformed, detail)
}

fn refused(broken: Broken, source: SocketAddr) -> Refusal {
    let reason = match broken {
        Broken::Missing => Reason::ProxyHeaderMissing,
        Broken::LineTooLong
        | Broken::LineEnd
        | Broken::LineProtocol
        | Broken::LineAddresses
        | Broken::Version(_)
        | Broken::Command(_)
        | Broken::Family(_)
        | Broken::TooLong { .. }
        | Broken::TooShort { .. }
        | Broken::Field
        | Broken::ChecksumForm
        | Broken::Checksum => Reason::ProxyHeaderMalformed,
    };
    Refusal::new(reason, format!("{source} is in proxy_protocol.from: {broken}"))
}

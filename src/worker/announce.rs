//! The PROXY header that an upstream is sent ahead of a client's bytes.
//!
//! Gathers what the configuration asks for of what is known of the client; `core::proxy_protocol`
//! writes it, `upstream` and `flow` send it.

use super::connection::Connection;
use crate::config::plan::{ProxyField, ProxyHeader, ProxyVersion};
use crate::core::proxy_protocol::{Addresses, Fields, version_1, version_2};
use crate::tls::{Announced, ClientFacts};

impl Connection {
    /// What this client's upstream is sent first; empty where `header` asks for nothing.
    pub(super) fn announcement(&self, header: Option<&ProxyHeader>) -> Vec<u8> {
        let Some(header) = header else { return Vec::new() };
        let addresses =
            Addresses { source: self.card.source.get(), destination: self.destination() };
        let wanted = match &header.version {
            ProxyVersion::One => return version_1(addresses),
            ProxyVersion::Two(fields) => fields,
        };
        let wants = |field: ProxyField| wanted.contains(&field);
        let id = format!("{:016x}", self.card.id);
        let client = self.client.as_deref();
        let alpn = client.and_then(|client| client.negotiated.alpn.as_deref());
        // Only these are worth reading the certificate for.
        let is_read = wants(ProxyField::Ssl) || wants(ProxyField::Identity);
        let client = client.filter(|_| is_read).map(ClientFacts::announced);
        let client = client.as_ref();
        let fields = Fields {
            alpn: alpn.filter(|_| wants(ProxyField::Alpn)),
            authority: self.notes.server_name.as_deref().filter(|_| wants(ProxyField::Authority)),
            unique_id: wants(ProxyField::UniqueId).then_some(id.as_bytes()),
            tls: client
                .filter(|_| wants(ProxyField::Ssl))
                .map(|client| client.tls(wants(ProxyField::ClientCert))),
            identity: client.and_then(Announced::identity).filter(|_| wants(ProxyField::Identity)),
            crc32c: wants(ProxyField::Crc32c),
        };
        version_2(addresses, &fields)
    }

    /// What the client connected to: as the balancer in front says, else here.
    fn destination(&self) -> std::net::SocketAddr {
        let said = self.proxied.as_ref().and_then(|proxied| proxied.destination);
        // A socket whose client is gone has no address; what is sent then reaches nobody.
        said.or_else(|| self.local()).unwrap_or(self.card.source.get())
    }
}

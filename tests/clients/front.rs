//! A gateway that terminates mutual TLS before one upstream, and those who come to it: a client that
//! it trusts, a stranger that it does not.
//!
//! The gateway sees the upstream as plain TCP; what speaks there is the test's business.

use std::net::SocketAddr;
use std::process::Command;

use portcullis_kit::{Authority, ClientSpec, Gateway, Identity, PATIENCE};
use serde_json::Value;

use crate::program;

/// A gateway, its certificates and its callers.
pub(crate) struct Front {
    gateway: Gateway,
    config: String,
    authority: Authority,
    /// The gateway's trust accepts this one.
    pub(crate) client: Identity,
    /// Of an authority that the gateway has never heard of.
    pub(crate) stranger: Identity,
}

/// More lines for a configuration.
#[derive(Default)]
pub(crate) struct Lines<'a> {
    /// For `[tls.downstream.edge]`.
    pub(crate) downstream: &'a str,
    /// For `[listener.edge]`.
    pub(crate) listener: &'a str,
    /// For every cluster; tables may follow.
    pub(crate) cluster: &'a str,
}

/// A protocol version, as its name in the access log.
pub(crate) const TLS12: &str = "TLSv1.2";
pub(crate) const TLS13: &str = "TLSv1.3";

impl Front {
    /// Every server name leads to `upstream`.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        Self::with(&[("upstream", "", upstream)], "")
    }

    /// As `before`, with more lines for `[tls.downstream.edge]`.
    pub(crate) fn before_with(upstream: SocketAddr, downstream: &str) -> Self {
        Self::with(&[("upstream", "", upstream)], downstream)
    }

    /// As `before`, with more lines in several places.
    pub(crate) fn between(upstream: SocketAddr, lines: &Lines<'_>) -> Self {
        Self::whole(&[("upstream", "", upstream)], lines)
    }

    /// A chain and a cluster each: its name, the server name that leads there ("" for every other),
    /// and the upstream.
    pub(crate) fn with(chains: &[(&str, &str, SocketAddr)], downstream: &str) -> Self {
        Self::whole(chains, &Lines { downstream, ..Lines::default() })
    }

    fn whole(chains: &[(&str, &str, SocketAddr)], lines: &Lines<'_>) -> Self {
        let Lines { downstream, listener, cluster } = lines;
        let authority = Authority::new("Clients CA");
        let names = ["localhost", "*.example.test", "127.0.0.1"];
        let server = authority.server(&names);
        let client = authority.client(&ClientSpec::new("alice").uri("spiffe://example.test/alice"));
        let stranger = Authority::new("Strangers CA").client(&ClientSpec::new("mallory"));
        let mut config = format!(
            r#"
[runtime]
workers = 2
[access_log]
path   = "stdout"
format = "json"
[listener.edge]
address = "127.0.0.1:0"
{listener}
[tls.downstream.edge]
certificates = [{{ chain = {:?}, key = {:?} }}]
trust = "clients"
{downstream}
[trust.clients]
anchors = [{:?}]
"#,
            server.chain_path,
            server.key_path,
            authority.ca_path(),
        );
        for (name, server_name, upstream) in chains {
            config += &format!("[listener.edge.chain.{name}]\ntls = \"edge\"\n");
            if !server_name.is_empty() {
                config += &format!("match = {{ server_names = [\"{server_name}\"] }}\n");
            }
            config += &format!("cluster = \"{name}\"\n");
            config += &format!("[cluster.{name}]\nendpoints = [\"{upstream}\"]\n{cluster}\n");
        }
        let gateway = Gateway::start(env!("CARGO_BIN_EXE_portcullis"), &config);
        Self { gateway, config, authority, client, stranger }
    }

    /// From here on a second node with the same configuration stands here; the first one's guard is
    /// returned.
    pub(crate) fn change_node(&mut self) -> Gateway {
        let second = Gateway::start(env!("CARGO_BIN_EXE_portcullis"), &self.config);
        std::mem::replace(&mut self.gateway, second)
    }

    /// Another client of the same authority.
    pub(crate) fn issue(&self, spec: &ClientSpec) -> Identity {
        self.authority.client(spec)
    }

    pub(crate) fn port(&self) -> u16 {
        self.gateway.addr("edge").port()
    }

    /// The file with the CA that the gateway's certificate comes from.
    pub(crate) fn ca(&self) -> String {
        self.authority.ca_path().display().to_string()
    }

    /// A command for `program`, whose words may hold `{port}` and `{ca}`.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, words: &str) -> Command {
        let words = words.replace("{port}", &self.port().to_string()).replace("{ca}", &self.ca());
        program::command(program, &words)
    }

    /// The first access-log line, past or to come, of a connection in this version that was served.
    pub(crate) fn served(&self, version: &str, resumed: bool) -> Value {
        self.gateway.wait_access(PATIENCE, |line| {
            line["outcome"] == "closed"
                && line["tls"]["version"] == version
                && line["tls"]["resumed"] == resumed
        })
    }

    /// The first access-log line, past or to come, of a connection refused for this reason.
    pub(crate) fn refused(&self, reason: &str) -> Value {
        self.gateway
            .wait_access(PATIENCE, |line| line["outcome"] == "refused" && line["reason"] == reason)
    }

    /// The first access-log line, past or to come, that `matches`.
    pub(crate) fn logged(&self, matches: impl FnMut(&Value) -> bool) -> Value {
        self.gateway.wait_access(PATIENCE, matches)
    }

    /// Waits for `count` connections that have ended, and returns what is logged of each.
    pub(crate) fn ended(&self, count: usize) -> Vec<Value> {
        let mut seen = 0;
        self.gateway.wait_access(PATIENCE, |_| {
            seen += 1;
            seen == count
        });
        self.gateway.access_log()
    }
}

//! A gateway's TLS in memory: a chain that asks for certificates, and a client with leaf and
//! intermediate that is let in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::core::client_hello::{Newest, RecordLimit};
use portcullis::core::route::ChainId;
use portcullis::tls::downstream::{ClientFacts, DownstreamTerms, HelloFacts};
use portcullis::tls::handshake::Outcome;
use portcullis::tls::{Material, OfferedGroups, StekKeys};
use portcullis_kit::{Authority, ClientSpec, ClientTls, Identity, Validity};
use rustls::ClientConnection;

pub(crate) struct Edge {
    pub(crate) terms: Arc<DownstreamTerms>,
    servers: Authority,
    alice: Identity,
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    let since = portcullis_kit::wall_now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Edge {
    /// Its trust has lists of so many entries for leaf and intermediate together.
    pub(crate) fn new(entries: u64) -> Self {
        let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
        let intermediate = clients.intermediate("Intermediate");
        let alice = intermediate.client(&ClientSpec::new("alice"));
        let server = servers.server(&[NAME]);
        let serials: Vec<_> =
            (0..entries).map(|at| (at + (1 << 40)).to_be_bytes().to_vec()).collect();
        let lists = clients.revocation_list(&[])
            + &intermediate.revocation_list_of(&serials, Validity::Current);
        let lists = clients.write("lists", "crl", &lists);
        let show = |path: &Path| path.display().to_string();
        let text = format!(
            "[listener.edge]\naddress = \"127.0.0.1:0\"\n\
             [listener.edge.chain.default]\ntls = \"edge\"\ncluster = \"app\"\n\
             [tls.downstream.edge]\ncertificates = [{{ chain = \"{}\", key = \"{}\" }}]\ntrust = \"clients\"\n\
             [trust.clients]\nanchors = [\"{}\"]\ncrls = [\"{}\"]\n\
             [cluster.app]\nendpoints = [\"127.0.0.1:1\"]\n",
            show(&server.chain_path),
            show(&server.key_path),
            show(clients.ca_path()),
            show(&lists)
        );
        let plan = portcullis::config::load_text(&text, Path::new("bench.toml")).expect("a plan");
        let tickets = &plan.session_tickets;
        let (rotate, lifetime) = (tickets.rotate, tickets.lifetime.min(Duration::from_secs(3_600)));
        let keys = StekKeys::load(&tickets.source, rotate, lifetime, now()).expect("ticket keys");
        let material = Material::load(&plan, &Arc::new(keys), 1, now, None).expect("material");
        let terms = Arc::clone(material.downstream(0, ChainId(0)).expect("TLS"));
        Self { terms, servers, alice }
    }

    /// Shakes hands with the client, and says what it showed.
    pub(crate) fn client(&self) -> ClientFacts {
        let config = ClientTls::trusting(&self.servers).identity(&self.alice).build();
        let name = NAME.try_into().expect("a name");
        let mut client = ClientConnection::new(config, name).expect("a client");
        let mut server = self.terms.start(HelloFacts {
            sni: Some(NAME),
            prefers_chacha20: false,
            newest: Newest::Tls13,
            takes_raw_keys_only: false,
            record_limit: RecordLimit::Standard,
            groups: OfferedGroups::default(),
        });
        let mut held = Vec::new();
        for _ in 0..20 {
            while client.wants_write() {
                client.write_tls(&mut held).expect("memory");
            }
            let mut out = Vec::new();
            let advance = server.advance(&mut held, &mut out);
            held.drain(..advance.consumed);
            let mut input = &out[..];
            while !input.is_empty() {
                client.read_tls(&mut input).expect("memory");
                client.process_new_packets().expect("a good server");
            }
            if matches!(advance.outcome, Outcome::Done) {
                return server.finish().expect("done").1;
            }
        }
        unreachable!("the handshake does not end");
    }
}

const NAME: &str = "edge.test";

//! Which filter chain a client reaches, from what it said before TLS: name, ALPN, source.
//!
//! Criteria are tried in one order, and each binds as soon as it has chosen:
//! 1. **Server name**: the exact name; else the longest `*.` suffix, at any depth; else the chains
//!    without `server_names`. Without an SNI: those last ones.
//! 2. **ALPN**: the first protocol, in the client's order, that a chain chosen in 1 lists; else the
//!    chains without `alpn`.
//! 3. **Source**: the longest prefix; else the chains without `sources`.
//!
//! There is no way back, as in Envoy: a client that asks for `orders.example.com` from a source
//! that no chain of that name takes is refused. It never falls through to `*.example.com` or to the
//! default chain, which may ask for less: a connection never reaches a chain that its SNI did not
//! select. The default chain therefore takes what no *name* took. Likewise 2 is not undone by 3.
//!
//! Raw connections (no TLS) have a table of their own, by source alone. Two chains that would match
//! the same client equally are a `Conflict`, found when the table is built. Names arrive normalised
//! by `server_name`; nothing here compares certificates or opens files. Read `name_table` next.

pub mod name_table;
mod prefix;
#[cfg(test)]
mod tests;

pub use self::prefix::{Prefix, PrefixError};

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use self::name_table::NameTable;
use self::prefix::PrefixTable;
use super::server_name::NamePattern;

/// A filter chain of one listener, by its place in the listener's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub u16);

/// What the first bytes of a connection were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Tls,
    /// Anything else: plain text.
    Raw,
}

/// Which clients a chain is for. Alternatives within a list, all lists together; an empty list asks
/// for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub server_names: Vec<NamePattern>,
    pub alpn: Vec<Arc<str>>,
    pub sources: Vec<Prefix>,
    pub transport: Transport,
}

/// What is known of a client when its chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a, 'p> {
    /// As `ServerName::as_str` gives it: lower case, no trailing dot.
    pub server_name: Option<&'a str>,
    /// Protocol names in the client's order (RFC 7301 §3.1).
    pub alpn: &'p [&'a [u8]],
    pub source: IpAddr,
    pub transport: Transport,
}

/// The chains of one listener as a look-up: hashes of names, so that 100,000 cost what one does.
#[derive(Debug, Clone)]
pub struct Router {
    exact: NameTable,
    suffixes: NameTable,
    /// Chains without `server_names`.
    unnamed: Option<Protocols>,
    raw: Option<Sources>,
    /// What the values of both name tables index. Names of equal chains share one.
    named: Box<[Protocols]>,
}

/// A listener's chains do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both chains match this client, neither more closely than the other.
    #[error("chains {} and {} both match {on}", .first.0, .second.0)]
    SameClient { first: ChainId, second: ChainId, on: Box<Criteria> },
    /// Plain text carries neither SNI nor ALPN.
    #[error("chain {} is for raw connections, which have no {criterion}", .chain.0)]
    RawWith { chain: ChainId, criterion: &'static str },
    #[error("the server names of the listener are longer than 4 GiB together")]
    NamesTooLong,
}

/// One client as the tables see it: the criteria that chose it, `None` where nothing was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Criteria {
    pub transport: Transport,
    /// A name, or `*.` and a suffix.
    pub server_name: Option<String>,
    pub alpn: Option<Arc<str>>,
    pub source: Option<Prefix>,
}

/// Step 2: the chains of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Protocols {
    listed: Box<[(Arc<str>, Sources)]>,
    others: Option<Sources>,
}

/// Step 3: the chains of one name and protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sources {
    listed: Option<PrefixTable<ChainId>>,
    others: Option<ChainId>,
}

impl Match {
    /// The match of a chain without a `match` table: TLS clients that no name took.
    pub fn default_chain() -> Match {
        Match {
            server_names: Vec::new(),
            alpn: Vec::new(),
            sources: Vec::new(),
            transport: Transport::Tls,
        }
    }

    /// Whether this asks for nothing but TLS.
    pub fn is_default(&self) -> bool {
        *self == Match::default_chain()
    }
}

impl Router {
    /// Builds the table of a listener. A criterion that one chain lists twice counts once.
    ///
    /// # Errors
    /// One `Conflict` of those there are; the same one for the same chains.
    pub fn build(chains: &[(ChainId, Match)]) -> Result<Router, Conflict> {
        let (mut unnamed, mut raw) = (Vec::new(), Vec::new());
        let mut names = BTreeMap::<&NamePattern, Vec<usize>>::new();
        for (index, (chain, matches)) in chains.iter().enumerate() {
            match matches.transport {
                Transport::Raw => {
                    refuse_tls_criteria(*chain, matches)?;
                    raw.push(index);
                }
                Transport::Tls if matches.server_names.is_empty() => unnamed.push(index),
                Transport::Tls => {
                    for name in &matches.server_names {
                        let of_name = names.entry(name).or_default();
                        if of_name.last() != Some(&index) {
                            of_name.push(index);
                        }
                    }
                }
            }
        }
        let (exact, suffixes, named) = build_names(chains, &names)?;
        Ok(Router {
            exact,
            suffixes,
            unnamed: build_protocols(chains, &unnamed, None)?,
            raw: build_sources(chains, &raw, &Criteria::new(Transport::Raw))?,
            named,
        })
    }

    /// The chain of this client, or none: then it is refused.
    pub fn route(&self, query: Query<'_, '_>) -> Option<ChainId> {
        match query.transport {
            Transport::Raw => self.raw.as_ref()?.find(query.source),
            Transport::Tls => {
                self.protocols(query.server_name)?.find(query.alpn)?.find(query.source)
            }
        }
    }

    /// Server names and suffixes in the table.
    pub fn names(&self) -> usize {
        self.exact.len() + self.suffixes.len()
    }

    /// Heap bytes of the table, without the text of ALPN names (the plan owns it).
    pub fn bytes(&self) -> usize {
        let protocols = self.named.iter().chain(&self.unnamed).map(Protocols::bytes).sum::<usize>();
        self.exact.bytes() + self.suffixes.bytes() + size_of_val(&*self.named) + protocols
    }

    fn protocols(&self, server_name: Option<&str>) -> Option<&Protocols> {
        let chosen = server_name
            .and_then(|name| self.exact.find(name).or_else(|| self.suffixes.find_parent(name)));
        match chosen {
            Some(index) => self.named.get(index as usize),
            None => self.unnamed.as_ref(),
        }
    }
}

impl Protocols {
    fn find(&self, offered: &[&[u8]]) -> Option<&Sources> {
        if self.listed.is_empty() {
            return self.others.as_ref();
        }
        let of = |protocol: &&[u8]| {
            let place = self.listed.binary_search_by(|(name, _)| name.as_bytes().cmp(protocol));
            place.ok().map(|at| &self.listed[at].1)
        };
        offered.iter().find_map(of).or(self.others.as_ref())
    }

    fn bytes(&self) -> usize {
        let sources = self.listed.iter().map(|(_, sources)| sources).chain(&self.others);
        size_of_val(&*self.listed) + sources.map(Sources::bytes).sum::<usize>()
    }
}

impl Sources {
    fn find(&self, source: IpAddr) -> Option<ChainId> {
        self.listed.as_ref().and_then(|table| table.find(source)).or(self.others)
    }

    fn bytes(&self) -> usize {
        self.listed.as_ref().map_or(0, PrefixTable::bytes)
    }
}

impl Criteria {
    fn new(transport: Transport) -> Criteria {
        Criteria { transport, server_name: None, alpn: None, source: None }
    }
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transport, &self.server_name) {
            (Transport::Raw, _) => f.write_str("raw connections")?,
            (Transport::Tls, Some(name)) => write!(f, "server name \"{name}\"")?,
            (Transport::Tls, None) => f.write_str("clients that no server name took")?,
        }
        if let Some(alpn) = &self.alpn {
            write!(f, " with ALPN \"{}\"", alpn.escape_default())?;
        }
        if let Some(source) = &self.source {
            write!(f, " from {source}")?;
        }
        Ok(())
    }
}

fn refuse_tls_criteria(chain: ChainId, matches: &Match) -> Result<(), Conflict> {
    if !matches.server_names.is_empty() {
        return Err(Conflict::RawWith { chain, criterion: "server_names" });
    }
    if !matches.alpn.is_empty() {
        return Err(Conflict::RawWith { chain, criterion: "alpn" });
    }
    Ok(())
}

/// The two name tables and what they point to. Names that the same chains list share one entry: a
/// chain with 50,000 names costs one.
fn build_names(
    chains: &[(ChainId, Match)],
    names: &BTreeMap<&NamePattern, Vec<usize>>,
) -> Result<(NameTable, NameTable, Box<[Protocols]>), Conflict> {
    let mut named = Vec::new();
    let mut shared = HashMap::<&[usize], u32>::new();
    let (mut exact, mut suffixes) = (Vec::new(), Vec::new());
    for (&pattern, of_name) in names {
        let index = match shared.get(of_name.as_slice()) {
            Some(&index) => index,
            None => {
                let index = u32::try_from(named.len()).unwrap_or(u32::MAX);
                named.extend(build_protocols(chains, of_name, Some(pattern))?);
                shared.insert(of_name, index);
                index
            }
        };
        match pattern {
            NamePattern::Exact(name) => exact.push((name.as_str(), index)),
            NamePattern::Below(name) => suffixes.push((name.as_str(), index)),
        }
    }
    let table = |names| NameTable::build(names).ok_or(Conflict::NamesTooLong);
    Ok((table(&exact)?, table(&suffixes)?, named.into()))
}

/// Step 2 for the chains `of_name`, which is not empty unless the result is `None`.
fn build_protocols(
    chains: &[(ChainId, Match)],
    of_name: &[usize],
    name: Option<&NamePattern>,
) -> Result<Option<Protocols>, Conflict> {
    let mut others = Vec::new();
    let mut listed = BTreeMap::<&Arc<str>, Vec<usize>>::new();
    for &index in of_name {
        let alpn = &chains[index].1.alpn;
        if alpn.is_empty() {
            others.push(index);
        }
        for protocol in alpn {
            let of_protocol = listed.entry(protocol).or_default();
            if of_protocol.last() != Some(&index) {
                of_protocol.push(index);
            }
        }
    }
    let mut on = Criteria::new(Transport::Tls);
    on.server_name = name.map(NamePattern::to_string);
    let others = build_sources(chains, &others, &on)?;
    let mut tables = Vec::with_capacity(listed.len());
    for (protocol, of_protocol) in listed {
        on.alpn = Some(Arc::clone(protocol));
        if let Some(sources) = build_sources(chains, &of_protocol, &on)? {
            tables.push((Arc::clone(protocol), sources));
        }
    }
    if tables.is_empty() && others.is_none() {
        return Ok(None);
    }
    Ok(Some(Protocols { listed: tables.into(), others }))
}

/// Step 3 for the chains `of_protocol`; `None` if there are none. `on` describes them.
fn build_sources(
    chains: &[(ChainId, Match)],
    of_protocol: &[usize],
    on: &Criteria,
) -> Result<Option<Sources>, Conflict> {
    let mut others = None;
    let mut listed = BTreeMap::<Prefix, ChainId>::new();
    let same_client = |first, second, source| Conflict::SameClient {
        first,
        second,
        on: Box::new(Criteria { source, ..on.clone() }),
    };
    for &index in of_protocol {
        let (chain, matches) = &chains[index];
        if matches.sources.is_empty()
            && let Some(first) = others.replace(*chain)
        {
            return Err(same_client(first, *chain, None));
        }
        for &source in &matches.sources {
            if let Some(first) = listed.insert(source, *chain)
                && first != *chain
            {
                return Err(same_client(first, *chain, Some(source)));
            }
        }
    }
    if listed.is_empty() && others.is_none() {
        return Ok(None);
    }
    let listed = (!listed.is_empty()).then(|| PrefixTable::new(listed.into_iter().collect()));
    Ok(Some(Sources { listed, others }))
}

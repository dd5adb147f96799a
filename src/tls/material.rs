//! Certificates, keys and trust anchors: the files that a plan names, read into one snapshot.
//!
//! Built off the workers and swapped whole. `config::plan` says which files, `pem` reads them, this
//! file makes rustls configurations of them, one for each (listener, chain) and `tls.upstream`.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption as ClientResumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;

use super::UnixClock;
use super::asked::OwnCertificate;
use super::certificate_dir::{CertificateDir, Loader as PairLoader};
use super::chain_order::{self, ShownChain};
use super::crypto::{self, SuiteOrder};
use super::downstream::DownstreamTerms;
use super::hints::NAMES_BYTES_MAX;
use super::identity::sha256;
use super::leaf::LeafPurpose;
use super::note::{CertificateNote, DirectoryNote, NoteKind, owner};
use super::pem::{self, Findings};
use super::resolver::Resolver;
use super::served::Served;
use super::stek::StekKeys;
use super::ticketer::{Scope, ScopeBuilder, TicketPolicy, Ticketer};
use super::trust::{Anchor, TrustStore};
use super::upstream::UpstreamTerms;
use super::verifier::{ClientVerifier, UpstreamVerifier};
use crate::config::error::Problem;
use crate::config::plan::{
    CertificateFiles, Chain, ClientAuth, DownstreamTls, FileRef, FilterKind, Listener, Plan,
    Resumption, TrustId, UpstreamTls, UpstreamTlsId,
};
use crate::core::identity::Identity;
use crate::core::route::ChainId;
use crate::core::server_name::NamePattern;
use crate::core::trust::Mode;

/// All terms of a plan, built.
#[derive(Debug)]
pub struct Material {
    /// By listener, then by chain.
    downstream: Vec<Vec<Option<Arc<DownstreamTerms>>>>,
    upstream: Vec<Arc<UpstreamTerms>>,
    trusts: Vec<Arc<TrustStore>>,
    directories: Vec<Arc<CertificateDir>>,
    certificates: Vec<CertificateNote>,
    warnings: Vec<Problem>,
}

impl Material {
    /// Reads every file that the plan names. `generation` counts changes of trust; tickets carry it.
    /// Of a `certificate_dir` that `previous` served too, what has not changed stays in memory.
    ///
    /// # Errors
    /// All problems at once, each at the place that names the file.
    pub fn load(
        plan: &Plan,
        stek: &Arc<StekKeys>,
        generation: u64,
        clock: UnixClock,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let loader = Loader {
            plan,
            stek,
            generation,
            clock,
            previous,
            directories: Vec::new(),
            notes: Vec::new(),
            chains: Vec::new(),
            uncertified: Vec::new(),
            findings: Findings::default(),
        };
        loader.load()
    }

    /// `None`: this chain does not terminate TLS.
    pub fn downstream(&self, listener: usize, chain: ChainId) -> Option<&Arc<DownstreamTerms>> {
        self.downstream.get(listener)?.get(usize::from(chain.0))?.as_ref()
    }

    /// The terms of a `tls.upstream` of the same plan.
    pub fn upstream(&self, id: UpstreamTlsId) -> &Arc<UpstreamTerms> {
        &self.upstream[usize::from(id.0)]
    }

    /// The trusts, in the order of the plan.
    pub fn trusts(&self) -> &[Arc<TrustStore>] {
        &self.trusts
    }

    /// Every certificate, list and staple, but for those of a `certificate_dir`.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateNote> {
        self.certificates.iter()
    }

    /// Every `certificate_dir` as it is at `now`.
    pub fn directories(&self, now: u64) -> impl Iterator<Item = DirectoryNote> {
        self.directories.iter().map(move |directory| directory.note(now))
    }

    /// Reads every pair of every `certificate_dir`, which takes a second for some thousands, and says
    /// what is wrong with them.
    pub fn check_directories(&self) -> Vec<Problem> {
        self.directories.iter().flat_map(|directory| directory.check()).collect()
    }

    /// What loads and yet needs someone's attention, as a certificate that has expired.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

/// One pass over a plan.
struct Loader<'a> {
    plan: &'a Plan,
    stek: &'a Arc<StekKeys>,
    generation: u64,
    clock: UnixClock,
    previous: Option<&'a Material>,
    directories: Vec<Arc<CertificateDir>>,
    notes: Vec<CertificateNote>,
    chains: Vec<ShownChain>,
    /// What there is to say of chains with names that stand in none of their certificates.
    uncertified: Vec<Problem>,
    findings: Findings,
}

/// The files of one `tls.downstream`, read.
struct DownstreamFiles {
    keys: Vec<Arc<Served>>,
    directory: Option<Arc<CertificateDir>>,
    trust: Option<Arc<TrustStore>>,
}

impl Loader<'_> {
    fn load(mut self) -> Result<Material, Vec<Problem>> {
        let plan = self.plan;
        let now = (self.clock)();
        // Trusts first, each once, named by several terms or by none.
        let trusts: Vec<Option<Arc<TrustStore>>> = plan
            .trusts
            .iter()
            .enumerate()
            .map(|trust| TrustStore::load(trust, now, &mut self.findings))
            .collect();
        let files: Vec<Option<DownstreamFiles>> =
            plan.downstream_tls.iter().map(|terms| self.downstream_files(terms, &trusts)).collect();
        let mut downstream = Vec::new();
        for listener in &plan.listeners {
            downstream.push(self.chains(listener, &files));
        }
        self.findings.few(std::mem::take(&mut self.uncertified));
        let upstream: Vec<_> =
            plan.upstream_tls.iter().map(|terms| self.upstream(terms, &trusts)).collect();
        let upstream = upstream.into_iter().collect::<Option<Vec<_>>>();
        let trusts = trusts.into_iter().collect::<Option<Vec<_>>>();
        self.look_at_chains(&trusts);
        self.notes.extend(trust_notes(plan, trusts.iter().flatten()));
        let (directories, certificates) = (self.directories, self.notes);
        let Findings { problems, warnings } = self.findings;
        let (true, Some(upstream), Some(trusts)) = (problems.is_empty(), upstream, trusts) else {
            return Err(problems);
        };
        Ok(Material { downstream, upstream, trusts, directories, certificates, warnings })
    }

    fn downstream_files(
        &mut self,
        terms: &DownstreamTls,
        trusts: &[Option<Arc<TrustStore>>],
    ) -> Option<DownstreamFiles> {
        let mut keys = Vec::new();
        for files in &terms.certificates {
            keys.push(self.pair(LeafPurpose::Server, files));
        }
        let directory = match &terms.certificate_dir {
            None => None,
            Some(directory) => Some(self.directory(directory)?),
        };
        let keys = keys.into_iter().collect::<Option<Vec<_>>>()?;
        let trust = match terms.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional(trust) | ClientAuth::Require(trust) => {
                Some(trust_of(trusts, trust)?)
            }
        };
        Some(DownstreamFiles { keys, directory, trust })
    }

    /// A pair that the configuration names.
    fn pair(&mut self, purpose: LeafPurpose, files: &CertificateFiles) -> Option<Arc<Served>> {
        let now = (self.clock)();
        let served = pem::certified_key(files, purpose, now, &mut self.findings);
        pem::check_mode(&files.key, &mut self.findings);
        let served = served?;
        let kind = match purpose {
            LeafPurpose::Server => NoteKind::Server,
            LeafPurpose::Client => NoteKind::UpstreamClient,
        };
        let chain = CertificateNote::of_chain(kind, &files.chain, &served.bare().cert);
        let subject = chain.first().map_or_else(String::new, |leaf| leaf.subject.clone());
        let certificates = chain.iter().filter_map(|note| note.identity.clone()).collect();
        self.chains.push(ShownChain { at: files.chain.at.clone(), certificates });
        self.notes.extend(chain);
        if let (Some(file), Some((this_update, next_update))) = (&files.ocsp, served.staple()) {
            let staple = served.key(this_update).ocsp.as_deref().unwrap_or_default();
            self.notes.push(CertificateNote {
                kind: NoteKind::Staple,
                owner: owner(file),
                path: file.path.clone(),
                number: 1,
                subject,
                digest: sha256(staple),
                identity: None,
                not_before: this_update,
                not_after: next_update,
                entries: None,
            });
        }
        Some(served)
    }

    fn directory(&mut self, file: &FileRef) -> Option<Arc<CertificateDir>> {
        let before = self.previous.map(|material| &material.directories[..]).unwrap_or_default();
        let same = before.iter().find(|directory| directory.path() == file.path);
        let loader = match self.directories.first().or(before.first()) {
            Some(directory) => Arc::clone(directory.loader()),
            None => match PairLoader::start() {
                Ok(loader) => loader,
                Err(error) => {
                    let message = format!("no thread to read certificates with: {error}");
                    self.findings.problem(
                        &file.at,
                        message,
                        "raise the limit of threads (TasksMax)",
                    );
                    return None;
                }
            },
        };
        let same = same.map(|directory| &**directory);
        let findings = &mut self.findings;
        let loaded = CertificateDir::load(file, &loader, self.clock, same, findings)?;
        self.directories.push(Arc::clone(&loaded));
        Some(loaded)
    }

    fn chains(
        &mut self,
        listener: &Listener,
        files: &[Option<DownstreamFiles>],
    ) -> Vec<Option<Arc<DownstreamTerms>>> {
        let mut built = Vec::new();
        for chain in &listener.chains {
            built.push(chain.tls.and_then(|id| {
                let files = files.get(usize::from(id.0))?.as_ref()?;
                self.downstream(listener, chain, self.plan.downstream_tls(id), files)
            }));
        }
        built
    }

    fn downstream(
        &mut self,
        listener: &Listener,
        chain: &Chain,
        terms: &DownstreamTls,
        files: &DownstreamFiles,
    ) -> Option<Arc<DownstreamTerms>> {
        let scope = scope(listener, chain, terms, files);
        let ticketer: Option<Arc<Ticketer>> = match terms.resumption {
            Resumption::Off => None,
            Resumption::Tickets => {
                let policy = TicketPolicy {
                    lifetime: seconds(self.plan.session_tickets.lifetime),
                    generation: self.generation,
                    anonymous: !matches!(terms.client_auth, ClientAuth::Require(_)),
                };
                let (keys, trust) = (Arc::clone(self.stek), files.trust.clone());
                Some(Arc::new(Ticketer::new(keys, scope, trust, policy, self.clock)))
            }
        };
        self.look_at_hints(terms, files);
        self.look_at_names(chain, files);
        let mut config = |order| self.server_config(terms, files, ticketer.clone(), order);
        let (policy, chacha) = (config(SuiteOrder::Policy)?, config(SuiteOrder::ChachaFirst)?);
        Some(Arc::new(DownstreamTerms {
            config: Arc::new(policy),
            config_chacha: Arc::new(chacha),
            trust: files.trust.clone(),
            requires_certificate: matches!(terms.client_auth, ClientAuth::Require(_)),
            filters: chain.filters.clone(),
            offers: crypto::offers(&terms.crypto, &terms.alpn),
            groups: terms.crypto.groups.as_slice().into(),
            directory: files.directory.clone(),
        }))
    }

    /// Warns, once a trust, where clients are not told its anchors.
    fn look_at_hints(&mut self, terms: &DownstreamTls, files: &DownstreamFiles) {
        let (ClientAuth::Require(id) | ClientAuth::Optional(id)) = terms.client_auth else {
            return;
        };
        let Some(bytes) = files.trust.as_ref().and_then(|trust| trust.hints.untold()) else {
            return;
        };
        let trust = self.plan.trust(id);
        let message = format!(
            "the names of the anchors of trust {} are {bytes} bytes, and a client is told at most \
             {NAMES_BYTES_MAX}: it is told none",
            trust.name
        );
        let help = "a client with several certificates must be set to show the one for this gateway; others \
                    need nothing";
        self.findings.warning(&trust.at, message, help);
    }

    /// Notes names that lead to the chain and stand in none of its certificates.
    fn look_at_names(&mut self, chain: &Chain, files: &DownstreamFiles) {
        if files.directory.is_some() {
            return;
        }
        let names = chain.matches.server_names.iter().filter_map(|pattern| match pattern {
            NamePattern::Exact(name) => Some(name.as_str()),
            // Some of its names may have a certificate.
            NamePattern::Below(_) => None,
        });
        let mut uncertified = names.filter(|name| !files.keys.iter().any(|key| key.is_for(name)));
        let Some(first) = uncertified.next() else { return };
        let others = match uncertified.count() {
            0 => String::new(),
            count => format!(", and for {count} more of its server_names"),
        };
        let message = format!("no certificate of this chain is for {first}{others}");
        let help = "clients that ask for such a name compare it with the certificate, and leave: add one that \
                    has it, or correct server_names";
        self.uncertified.push(Problem { at: chain.at.clone(), message, help: help.to_owned() });
    }

    /// Warns of chains that lack an intermediate which the rest of the configuration knows.
    fn look_at_chains(&mut self, trusts: &Option<Vec<Arc<TrustStore>>>) {
        let anchors = trusts.iter().flatten().flat_map(|trust| trust.anchors());
        let anchors: Vec<&Identity> = anchors.map(|anchor| &anchor.identity).collect();
        let lacking = chain_order::incomplete(&self.chains, &anchors);
        let warnings = lacking.into_iter().map(|(chain, top)| Problem {
            at: chain.at.clone(),
            message: format!(
                "this chain ends with {}, and {}, which has issued that, is no root",
                top.subject, top.issuer
            ),
            help: "append the certificate of the issuer: who knows the root alone refuses the chain without it"
                .to_owned(),
        });
        self.findings.few(warnings.collect());
    }

    fn server_config(
        &mut self,
        terms: &DownstreamTls,
        files: &DownstreamFiles,
        ticketer: Option<Arc<Ticketer>>,
        order: SuiteOrder,
    ) -> Option<ServerConfig> {
        let provider = crypto::provider(&terms.crypto, order);
        let verifier: Arc<dyn rustls::server::danger::ClientCertVerifier> = match &files.trust {
            None => Arc::new(NoClientAuth),
            Some(trust) => {
                let mandatory = matches!(terms.client_auth, ClientAuth::Require(_));
                Arc::new(ClientVerifier::new(Arc::clone(trust), &provider, mandatory))
            }
        };
        let builder = ServerConfig::builder_with_details(provider, self.time())
            .with_protocol_versions(&crypto::versions(&terms.crypto));
        let builder = match builder {
            Ok(builder) => builder,
            Err(error) => {
                self.findings.problem(&terms.at, format!("crypto: {error}"), CRYPTO_HELP);
                return None;
            }
        };
        let resolver = match files.directory {
            None => Resolver::listed(files.keys.clone(), self.clock),
            Some(_) => Resolver::named(self.clock),
        };
        let mut config =
            builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver));
        config.ignore_client_order = true;
        config.alpn_protocols = protocols(&terms.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.enable_secret_extraction = true;
        // Early data can be replayed and is never accepted (threat 22): rustls takes none where tickets are
        // without state, nor where no session is stored. Here this is only how much of it is passed over.
        config.max_early_data_size = EARLY_DATA_SKIPPED_MAX;
        config.send_tls13_tickets = 0;
        if let Some(ticketer) = ticketer {
            config.ticketer = ticketer;
            config.send_tls13_tickets = usize::from(terms.tickets_sent);
        }
        Some(config)
    }

    fn upstream(
        &mut self,
        terms: &UpstreamTls,
        trusts: &[Option<Arc<TrustStore>>],
    ) -> Option<Arc<UpstreamTerms>> {
        let provider = crypto::provider(&terms.crypto, SuiteOrder::Policy);
        let certificate =
            terms.certificate.as_ref().map(|files| self.pair(LeafPurpose::Client, files));
        let trust = trust_of(trusts, terms.trust)?;
        let digest = upstream_digest(terms, certificate.iter().flatten(), &trust);
        if trust.mode == Mode::Audit {
            let message = format!(
                "trust {} only audits: whoever answers in an upstream's place is believed, and gets \
                 the clients' bytes",
                trust.name
            );
            let help =
                "write mode = \"enforce\" for a trust of upstreams, once its audits are zero";
            self.findings.warning(&terms.at, message, help);
        }
        let verifier = Arc::new(UpstreamVerifier::new(trust, &provider));
        let rustls_verifier = Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>;
        let builder = ClientConfig::builder_with_details(provider, self.time())
            .with_protocol_versions(&crypto::versions(&terms.crypto));
        let builder = match builder {
            Ok(builder) => builder.dangerous().with_custom_certificate_verifier(rustls_verifier),
            Err(error) => {
                self.findings.problem(&terms.at, format!("crypto: {error}"), CRYPTO_HELP);
                return None;
            }
        };
        let shown = match certificate {
            None => None,
            Some(certificate) => Some(Arc::clone(certificate?.bare())),
        };
        let own = Arc::new(OwnCertificate::new(&terms.name, shown));
        let mut config = builder.with_client_cert_resolver(own);
        config.alpn_protocols = protocols(&terms.alpn);
        config.enable_secret_extraction = true;
        config.enable_early_data = false;
        config.resumption = ClientResumption::disabled();
        let resumes = terms.resumption == Resumption::Tickets;
        Some(Arc::new(UpstreamTerms { config, verifier, resumes, clock: self.clock, digest }))
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Clock(self.clock))
    }
}

/// The process' clock, as rustls asks for it.
#[derive(Debug)]
struct Clock(UnixClock);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs((self.0)())))
    }
}

/// Everything that decides whether a client may have this chain, but for what `TrustStore::reaffirms`
/// looks up. Names and not ids: a reload may number them anew.
fn scope(
    listener: &Listener,
    chain: &Chain,
    terms: &DownstreamTls,
    files: &DownstreamFiles,
) -> Scope {
    let mode: &[u8] = match terms.client_auth {
        ClientAuth::None => b"none",
        ClientAuth::Optional(_) => b"optional",
        ClientAuth::Require(_) => b"require",
    };
    let rules = files.trust.as_ref().map(|trust| trust.rules_digest).unwrap_or_default();
    let mut parts = ScopeBuilder::default()
        .part(b"portcullis ticket scope 2")
        .part(listener.name.as_bytes())
        .part(chain.name.as_bytes())
        .part(terms.name.as_bytes())
        .part(mode)
        .part(&rules);
    for filter in &chain.filters {
        if let FilterKind::Authorize(authorize) = &filter.kind {
            parts = parts.part(b"authorize").part(authorize.describe().as_bytes());
        }
    }
    parts = parts.part(b"alpn");
    for protocol in &terms.alpn {
        parts = parts.part(protocol.as_bytes());
    }
    parts.finish()
}

/// Everything that a handshake with an upstream goes by. Names and not ids, as in `scope`.
fn upstream_digest<'a>(
    terms: &UpstreamTls,
    certificates: impl Iterator<Item = &'a Arc<Served>>,
    trust: &TrustStore,
) -> [u8; 32] {
    let UpstreamTls {
        name,
        at: _,
        server_name,
        trust: _,
        certificate: _,
        alpn,
        crypto,
        resumption,
    } = terms;
    let named = format!("{name:?} {server_name:?} {alpn:?} {crypto:?} {resumption:?}");
    let mut parts = vec![sha256(named.as_bytes()), trust.digest];
    for certificate in certificates.flat_map(|pair| &pair.bare().cert) {
        parts.push(sha256(certificate));
    }
    sha256(parts.as_flattened())
}

fn trust_of(trusts: &[Option<Arc<TrustStore>>], id: TrustId) -> Option<Arc<TrustStore>> {
    trusts.get(usize::from(id.0))?.clone()
}

fn protocols(names: &[Arc<str>]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Notes about anchors, by whom they are believed, and about lists.
fn trust_notes<'a>(
    plan: &Plan,
    trusts: impl Iterator<Item = &'a Arc<TrustStore>>,
) -> Vec<CertificateNote> {
    let mut notes = Vec::new();
    for (id, trust) in (0..).map(TrustId).zip(trusts) {
        let is_for_upstreams = plan.upstream_tls.iter().any(|terms| terms.trust == id);
        let is_for_clients = plan.downstream_tls.iter().any(|terms| match terms.client_auth {
            ClientAuth::None => false,
            ClientAuth::Optional(trust) | ClientAuth::Require(trust) => trust == id,
        });
        let kinds = [
            (NoteKind::ClientCa, is_for_clients || !is_for_upstreams),
            (NoteKind::UpstreamCa, is_for_upstreams),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, is_so)| *is_so) {
            notes.extend(trust.anchors().iter().map(|anchor| {
                let Anchor { file, number, identity, .. } = anchor;
                CertificateNote::of_certificate(kind, file, *number, identity.clone())
            }));
        }
        notes.extend_from_slice(trust.lists());
    }
    notes
}

/// RFC 8446 §4.6.1 allows a week.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).min(7 * 86_400)
}

/// Servers that take early data take 16 KiB in one flight as a rule; a client that comes with more than this is
/// refused.
const EARLY_DATA_SKIPPED_MAX: u32 = 64 * 1024;

const CRYPTO_HELP: &str =
    "each of `versions` needs at least one suite of that version in `cipher_suites`";

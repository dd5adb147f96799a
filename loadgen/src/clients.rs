//! Owns who connects: for each attempt it draws a server name, a client certificate, a TLS version
//! and whether to resume, from a seeded generator. Never opens anything. Read `worker.rs` next.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;

use crate::identity::Identity;
use crate::ticket_pool::Holder;
use crate::tls_client::Version;
use crate::weights::Weighted;

/// What should become of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It is let in.
    Accept,
    /// It is refused; being let in is an error.
    Refuse,
}

/// A server name that connections ask for.
#[derive(Debug, Clone)]
pub struct Name {
    /// As written.
    pub text: String,
    /// What rustls sends; an IP address sends no SNI.
    pub server: ServerName<'static>,
    /// What the server should do with it.
    pub expect: Expect,
    /// The certificates its clients present, by index into `Population::identities`.
    pub identities: Weighted<usize>,
    /// Flawed certificates by flaw, by index likewise.
    pub flawed: BTreeMap<String, Vec<usize>>,
}

/// Who shares tickets with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All who ask for the same name with the same certificate.
    Pool,
    /// Each of so many virtual clients keeps its own, and keeps its name and certificate.
    PerClient(u32),
}

/// How a name's next client certificate is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each is drawn, by weight.
    Random,
    /// One after the other: all have come before one comes again.
    InTurn,
}

/// Everyone who may connect in a run.
#[derive(Debug, Clone)]
pub struct Population {
    /// Server names by weight, as indices into `names`.
    pub choice: Weighted<usize>,
    /// The names.
    pub names: Vec<Name>,
    /// Every certificate of the run; the first is "none".
    pub identities: Vec<Identity>,
    /// Which certificate comes next.
    pub order: Order,
    /// TLS versions by weight.
    pub versions: Weighted<Version>,
    /// The share of attempts that wants to resume.
    pub resume: f64,
    /// Who shares tickets.
    pub sharing: Sharing,
    /// Shares of attempts with a flaw: its name, or `none` for no certificate at all.
    pub flaws: Vec<(String, f64)>,
}

/// One attempt's choices.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Index into `Population::names`.
    pub name: usize,
    /// Index into `Population::identities`.
    pub identity: usize,
    /// TLS version.
    pub version: Version,
    /// Whose tickets.
    pub holder: Holder,
    /// Whether it may spend a ticket.
    pub resume: bool,
    /// What should become of it.
    pub expect: Expect,
}

/// The index of "no certificate" in `Population::identities`.
pub const NO_CERTIFICATE: usize = 0;

impl Population {
    /// Whether every flaw that is asked for has a certificate behind it.
    ///
    /// # Errors
    /// Names the first flaw that nobody can present.
    pub fn check_flaws(&self) -> Result<()> {
        let total: f64 = self.flaws.iter().map(|(_, share)| share).sum();
        if total > 1.0 {
            bail!("the shares of bad clients add up to more than 1");
        }
        for (flaw, _) in &self.flaws {
            let known =
                flaw == "none" || self.names.iter().any(|name| name.flawed.contains_key(flaw));
            if !known {
                bail!("no certificate with the flaw {flaw:?}: see --tenants-from and pki.json");
            }
        }
        Ok(())
    }
}

/// Draws attempts for one load thread.
#[derive(Debug)]
pub struct Clients {
    population: Arc<Population>,
    random: fastrand::Rng,
    /// The fixed choices of virtual clients, where there are such.
    fixed: Vec<(usize, usize, Version)>,
    /// By name, the certificate whose turn it is; empty where they are drawn.
    turns: Vec<usize>,
    /// Load threads: each takes a certificate and leaves those of the others out.
    stride: usize,
}

impl Clients {
    /// Those of one of `threads` threads, with the run's seed mixed with its number.
    #[must_use]
    pub fn new(population: Arc<Population>, seed: u64, thread: u32, threads: u32) -> Self {
        let turns = match population.order {
            Order::Random => Vec::new(),
            Order::InTurn => vec![thread as usize; population.names.len()],
        };
        let random = fastrand::Rng::with_seed(seed);
        let stride = threads as usize;
        let mut clients = Self { population, random, fixed: Vec::new(), turns, stride };
        if let Sharing::PerClient(count) = clients.population.sharing {
            clients.fixed = (0..count).map(|_| clients.choose()).collect();
        }
        clients
    }

    /// The next attempt.
    pub fn draw(&mut self) -> Draw {
        let (name, identity, version, holder) = if self.fixed.is_empty() {
            let (name, identity, version) = self.choose();
            let identities = self.population.identities.len();
            let key = (name * identities + identity) * 2 + usize::from(version == Version::Tls13);
            (name, identity, version, Holder(key as u64))
        } else {
            let client = self.random.usize(..self.fixed.len());
            let (name, identity, version) = self.fixed[client];
            (name, identity, version, Holder(client as u64))
        };
        // Drawn in any case, so that the same seed gives the same clients at every ratio.
        let point = self.random.f64();
        let resume = point < self.population.resume;
        let expect = self.population.names[name].expect;
        let draw = Draw { name, identity, version, holder, resume, expect };
        self.with_flaw(draw)
    }

    /// A byte to be echoed.
    pub fn token(&mut self) -> u8 {
        self.random.u8(b'a'..=b'z')
    }

    fn choose(&mut self) -> (usize, usize, Version) {
        let name = *self.population.choice.pick(self.random.f64());
        let point = self.random.f64();
        let identities = &self.population.names[name].identities;
        let identity = match self.turns.get_mut(name) {
            None => *identities.pick(point),
            Some(turn) => {
                let all = identities.items();
                let identity = all[*turn % all.len()];
                *turn = (*turn + self.stride) % all.len();
                identity
            }
        };
        let version = *self.population.versions.pick(self.random.f64());
        (name, identity, version)
    }

    fn with_flaw(&mut self, draw: Draw) -> Draw {
        if self.population.flaws.is_empty() {
            return draw;
        }
        let mut point = self.random.f64();
        for (flaw, share) in &self.population.flaws {
            if point >= *share {
                point -= share;
                continue;
            }
            let identity = if flaw == "none" {
                Some(NO_CERTIFICATE)
            } else {
                let flawed = self.population.names[draw.name].flawed.get(flaw);
                flawed.and_then(|all| self.random.choice(all)).copied()
            };
            // A flawed client never resumes: it would spend a good client's ticket.
            return match identity {
                Some(identity) => Draw {
                    identity,
                    resume: false,
                    holder: Holder(u64::MAX),
                    expect: Expect::Refuse,
                    ..draw
                },
                None => draw,
            };
        }
        draw
    }
}

/// Reads a server name: `a.test`, or `none` for a hello without SNI.
///
/// # Errors
/// Neither a DNS name nor an address.
pub fn server_name(text: &str) -> Result<ServerName<'static>> {
    let text = if text == "none" { "127.0.0.1" } else { text };
    ServerName::try_from(text.to_owned()).with_context(|| format!("{text:?} is not a server name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(resume: f64, flaws: Vec<(String, f64)>) -> Arc<Population> {
        let identities = vec![Identity::none(), Identity::none(), Identity::none()];
        let names = ["a.test", "b.test"]
            .into_iter()
            .map(|text| Name {
                text: text.to_owned(),
                server: server_name(text).unwrap(),
                expect: Expect::Accept,
                identities: Weighted::new(vec![(1, 1.0)]).unwrap(),
                flawed: BTreeMap::from([("expired".to_owned(), vec![2])]),
            })
            .collect();
        Arc::new(Population {
            choice: Weighted::new(vec![(0, 3.0), (1, 1.0)]).unwrap(),
            names,
            identities,
            order: Order::Random,
            versions: Weighted::new(vec![(Version::Tls13, 1.0)]).unwrap(),
            resume,
            sharing: Sharing::Pool,
            flaws,
        })
    }

    #[test]
    fn the_same_seed_draws_the_same_clients_whatever_the_ratio() {
        let mut never = Clients::new(population(0.0, vec![]), 7, 0, 1);
        let mut often = Clients::new(population(0.8, vec![]), 7, 0, 1);
        let mut resumed = 0;
        for _ in 0..10_000 {
            let (one, other) = (never.draw(), often.draw());
            assert_eq!((one.name, one.holder), (other.name, other.holder));
            assert!(!one.resume);
            resumed += u32::from(other.resume);
        }
        assert!((7_800..8_200).contains(&resumed), "{resumed}");
    }

    #[test]
    fn certificates_in_turn_all_come_before_one_comes_again() {
        let mut population = Arc::unwrap_or_clone(population(0.0, vec![]));
        population.order = Order::InTurn;
        population.identities = vec![Identity::none(); 101];
        let certificates: Vec<_> = (1..=100).map(|index| (index, 1.0)).collect();
        for name in &mut population.names {
            name.identities = Weighted::new(certificates.clone()).unwrap();
        }
        let population = Arc::new(population);
        for threads in [1, 4] {
            let mut seen = BTreeMap::<(usize, usize), u32>::new();
            for thread in 0..threads {
                let mut clients = Clients::new(Arc::clone(&population), 3, thread, threads);
                // Names are drawn still; what one name takes is no turn of another.
                let mut left = [100 / threads; 2];
                while left != [0, 0] {
                    let draw = clients.draw();
                    if left[draw.name] > 0 {
                        left[draw.name] -= 1;
                        *seen.entry((draw.name, draw.identity)).or_default() += 1;
                    }
                }
            }
            assert_eq!(seen.len(), 200, "{threads} threads");
            assert!(seen.values().all(|times| *times == 1), "{seen:?}");
        }
    }

    #[test]
    fn flawed_clients_come_as_often_as_asked_and_must_be_refused() {
        let flaws = vec![("expired".to_owned(), 0.1), ("none".to_owned(), 0.05)];
        let population = population(0.9, flaws);
        population.check_flaws().unwrap();
        let mut clients = Clients::new(population, 1, 0, 1);
        let (mut expired, mut bare) = (0, 0);
        for _ in 0..10_000 {
            let draw = clients.draw();
            match draw.identity {
                NO_CERTIFICATE => bare += 1,
                2 => expired += 1,
                _ => {
                    assert_eq!(draw.expect, Expect::Accept);
                    continue;
                }
            }
            assert_eq!(draw.expect, Expect::Refuse);
            assert!(!draw.resume, "a flawed client spends nobody's ticket");
        }
        assert!((900..1_100).contains(&expired) && (420..580).contains(&bare), "{expired} {bare}");
    }

    #[test]
    fn a_flaw_that_nobody_has_is_refused() {
        assert!(population(0.0, vec![("revoked".to_owned(), 0.1)]).check_flaws().is_err());
        assert!(population(0.0, vec![("expired".to_owned(), 1.1)]).check_flaws().is_err());
    }
}

//! Owns the ways through a gateway that are measured: what it does with a client's bytes, and what the
//! upstream behind does. Every gateway listens on one port for each, so that none has to choose.

/// What a gateway does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leg {
    /// Terminates mutual TLS, speaks plain TCP to the upstream.
    Plain,
    /// Terminates mutual TLS, speaks mutual TLS to the upstream.
    Mtls,
    /// Reads the server name and passes the bytes through unopened.
    Pass,
}

/// What the upstream does, as `portcullis-load upstream --mode` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Echo,
    Sink,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) leg: Leg,
    pub(crate) mode: Mode,
}

impl Leg {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mtls => "mtls",
            Self::Pass => "pass",
        }
    }
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Echo, Self::Sink, Self::Source];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Sink => "sink",
            Self::Source => "source",
        }
    }
}

impl Way {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let legs = [Leg::Plain, Leg::Mtls, Leg::Pass];
        legs.into_iter().flat_map(|leg| Mode::ALL.map(|mode| Self { leg, mode }))
    }

    /// Of listeners, clusters and the like in configurations.
    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.leg.name(), self.mode.name())
    }

    /// Whether the upstream speaks TLS.
    pub(crate) fn is_tls_upstream(self) -> bool {
        self.leg != Leg::Plain
    }
}

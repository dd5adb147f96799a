//! Owns the plan of a run: values that cannot be wrong, made from the command line by `flags.rs`
//! and obeyed by `worker.rs`. Never reads files or arguments itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::arrivals::{Rate, Spread};
use crate::clients::Population;
use crate::session::Script;
use crate::source::Source;
use crate::tls_client::TlsTerms;

/// Who decides when the next connection starts.
#[derive(Debug, Clone, Copy)]
pub enum Loop {
    /// The schedule: clients do not wait for each other.
    Open {
        /// Arrivals a second.
        rate: Rate,
        /// How they are spread.
        spread: Spread,
        /// Beyond so many at once an arrival is dropped and counted.
        in_flight_max: u32,
    },
    /// So many at once: a new one starts when one ends.
    Closed {
        /// Connections at once.
        connections: u32,
    },
}

/// How a client ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// close_notify, then FIN, then wait for the server's.
    Orderly,
    /// FIN alone.
    Fin,
    /// RST.
    Reset,
    /// The descriptor is dropped, as when a process dies.
    Abort,
}

/// The phases of a run, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// The rate climbs.
    pub ramp: Duration,
    /// At full rate, not counted.
    pub warmup: Duration,
    /// Counted.
    pub measured: Duration,
}

impl Phases {
    /// From the start of the run to the start of the measured window.
    #[must_use]
    pub fn before(&self) -> Duration {
        self.ramp + self.warmup
    }

    /// From the start of the run to the end of the measured window.
    #[must_use]
    pub fn until_end(&self) -> Duration {
        self.before() + self.measured
    }
}

/// Everything a run needs to know.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The server.
    pub target: SocketAddr,
    /// Open or closed loop.
    pub pace: Loop,
    /// Ramp, warm-up, measurement.
    pub phases: Phases,
    /// Who connects.
    pub population: Arc<Population>,
    /// What all connections share.
    pub terms: TlsTerms,
    /// What connections do.
    pub script: Script,
    /// How they end.
    pub close: Close,
    /// An attempt without proof after this long has failed.
    pub timeout: Duration,
    /// Local addresses.
    pub source: Source,
    /// Load threads.
    pub threads: u32,
    /// The CPU of the first thread; the others follow. `None` leaves it to the scheduler.
    pub pin: Option<usize>,
    /// Of all random choices.
    pub seed: u64,
    /// Above this lag at the 99th percentile the run is invalid.
    pub lag_max: Duration,
}

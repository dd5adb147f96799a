//! What a configuration file may say: every table and key, with its meaning and its default.
//!
//! Reads, and judges nothing but names of keys and types of values; `convert` makes values that
//! cannot be wrong of it. The comments on the keys become the reference of the configuration. Here is
//! the top of a file and what is of the process; next: `listener`, `tls`, `trust`, `cluster`.

use std::time::Duration;

use toml::de::DeValue;

use super::error::{Location, Problems};
use super::node::{At, FromNode, Key, Named, Node, join};
use super::quantity::Size;

/// Declares tables of the file: a struct of optional values, the names of its keys and their docs.
/// `field as "key"` is for keys that are words of Rust.
macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])*
        $table:ident {
            $($(#[doc = $key_doc:literal])* $field:ident $(as $key:literal)?: $type:ty,)*
        }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(in crate::config) struct $table {
            $($(#[doc = $key_doc])* pub(in crate::config) $field: Option<At<$type>>,)*
        }

        impl $table {
            const KEYS: &[&str] = &[$(tables!(@key $field $($key)?)),*];
        }

        impl Table for $table {
            fn written(&self) -> impl Iterator<Item = (&'static str, &Location)> {
                [$((tables!(@key $field $($key)?), self.$field.as_ref().map(|v| &v.at))),*]
                    .into_iter()
                    .filter_map(|(key, at)| Some((key, at?)))
            }
        }

        impl FromNode for $table {
            fn expected() -> String {
                "a table".to_owned()
            }

            fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
                node.expect_table(Self::KEYS, problems).then(|| Self {
                    $($field: node.read_key(tables!(@key $field $($key)?), problems),)*
                })
            }

            fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
                $(
                    let key = join(prefix, tables!(@key $field $($key)?));
                    let doc = concat!($($key_doc, "\n"),*).trim().to_owned();
                    let expects = <$type>::expected();
                    keys.push(Key { key: key.clone(), expects, doc });
                    <$type>::keys_below(&key, keys);
                )*
            }
        }
    )*};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

mod cluster;
mod listener;
mod tls;
mod trust;

pub(super) use self::cluster::{RawCluster, RawEndpoint, RawHealth};
pub(super) use self::listener::{RawChain, RawFilter, RawListener, RawMatch, RawWeightedCluster};
pub(super) use self::tls::{RawCertificate, RawDownstreamTls, RawPair, RawTls, RawUpstreamTls};
pub(super) use self::trust::{RawIdentity, RawRevocation, RawTrust};

/// A table of the file.
pub(super) trait Table {
    /// The keys that are written down, and where each has its value.
    fn written(&self) -> impl Iterator<Item = (&'static str, &Location)>;

    /// Where `key` has its value; `table` if it is not written.
    fn place_of<'a>(&'a self, key: &str, table: &'a Location) -> &'a Location {
        self.written().find(|(written, _)| *written == key).map_or(table, |(_, at)| at)
    }
}

type List<T> = Vec<At<T>>;

tables! {
    /// A whole file.
    RawFile {
        /// Files to read as well, relative to this one; `*` may stand in the last part of a path.
        /// Each pattern's files are taken in name order. They may add tables, and chains to a
        /// listener, but never write a table again, and have no `include` of their own.
        include: List<String>,
        /// The process.
        runtime: RawRuntime,
        /// Limits of the whole process; 0 is off.
        limits: RawLimits,
        /// Where the admin pages are served. Left out: nowhere.
        admin: RawAdmin,
        /// What the gateway says about itself, on standard error.
        log: RawLog,
        /// One line a connection, refused ones included.
        access_log: RawAccessLog,
        /// The keys that session tickets are sealed with.
        session_tickets: RawSessionTickets,
        /// Addresses to listen on.
        listener: Named<RawListener>,
        /// How TLS is spoken, with clients and with upstreams.
        tls: RawTls,
        /// Whom to believe.
        trust: Named<RawTrust>,
        /// Upstreams.
        cluster: Named<RawCluster>,
    }

    /// `[runtime]`
    RawRuntime {
        /// Worker threads, each pinned to a core: a number from 1 to 1024, or "auto", one for each
        /// core that this process may use. Default: "auto".
        workers: RawWorkers,
        /// How sockets are driven: "auto", "epoll" or "io_uring" (Linux 6.0 or later, where the
        /// kernel allows it). Default: "auto", which is what measured faster, today epoll.
        io: String,
        /// Whether the configuration is loaded anew when one of its files changes, or a file that it
        /// names; SIGHUP does so in any case. Default: true.
        watch: bool,
        /// Name servers for clusters with `discovery = "dns"`, as "IP:port", in order of preference.
        /// Default: [], those of /etc/resolv.conf, with its search domains and /etc/hosts.
        resolvers: List<String>,
        /// Who the process becomes before it serves: a user's name, or number. Files that the
        /// configuration names must be readable to that user. Takes root to start with. Default: whoever
        /// started it.
        user: String,
        /// The group that goes with `user`: a name, or number. There are no other groups. Default: the
        /// user's own.
        group: String,
        /// Whether the kernel keeps the process from all files but those of its configuration, its
        /// logs and its program (Landlock), and from system calls that serving never makes (seccomp):
        /// "auto", where the kernel can; "required", or it does not start; "off". Default: "auto".
        sandbox: String,
        /// What SIGTERM sets off.
        drain: RawDrain,
        /// How long the new process of an upgrade in place may take until it can serve; after that it
        /// is ended, and the old one serves on. Default: "60s".
        upgrade_deadline: Duration,
    }

    /// `runtime.drain`
    RawDrain {
        /// How long new connections are still taken. Default: "0s".
        grace: Duration,
        /// How long the closing of idle sessions is spread over, after `grace`; one that waits for an answer
        /// has half of the time left until the deadline for it. Default: "10s".
        spread: Duration,
        /// When whatever is left is reset, counted from the signal. Default: "30s".
        deadline: Duration,
    }

    /// `[limits]`
    RawLimits {
        /// Open connections. Default: 100000.
        connections: u64,
        /// Handshakes that have begun and not ended. Default: 4096.
        handshakes_in_flight: u64,
        /// Handshakes admitted in a second, before any cryptography; so many at once, too. A fifth is for
        /// clients that offer to resume. Default: 0, off.
        handshakes_per_second: u64,
        /// Memory of the process, as `portcullis_process_resident_memory_bytes` has it. At 80 % of it no
        /// connections are kept ready, at 90 % new ones are refused and sessions closed that have been idle for
        /// half a minute, at 100 % all that are idle, those idle longest first, and those for which most
        /// is kept, as their peers do not read. Default: "0B", off.
        memory: Size,
    }

    /// `[admin]`
    RawAdmin {
        /// "IP:port", or "unix:PATH" relative to this file. Must be written.
        listen: String,
        /// Whether an address that is not loopback may be listened on. Other machines then get /livez,
        /// /readyz and /metrics, and nothing else. Default: false.
        allow_remote: bool,
    }

    /// `[log]`
    RawLog {
        /// "error", "warn", "info", "debug" or "trace". Default: "info".
        level: String,
        /// "text" or "json". Default: "text".
        format: String,
    }

    /// `[access_log]`
    RawAccessLog {
        /// "stdout", "off", or a file relative to this one. Default: "stdout".
        path: String,
        /// "text" or "json". Default: "json".
        format: String,
        /// Lines for refused connections in a second, for each reason. More are counted and left out,
        /// and the next line says how many. 0 is no limit. Default: 1000.
        refusals_per_second: u64,
    }

    /// `[session_tickets]`
    RawSessionTickets {
        /// Where keys come from: "auto", which is random at start and known to this process only,
        /// `{ root = FILE }` or `{ keys = [FILE, ...] }`, with which several nodes open each other's
        /// tickets. Default: "auto".
        source: RawTicketSource,
        /// After how long a new key takes over, in whole seconds; the same on every node that shares
        /// a root. With `keys`, new files take over and nothing else. Default: "1h".
        rotate: Duration,
        /// How long a ticket is accepted, at most "7d" (RFC 8446 §4.6.1). Default: "12h".
        lifetime: Duration,
    }

    /// `session_tickets.source`
    RawTicketFiles {
        /// A file of `portcullis stek init`, the same on every node; all derive the same keys from it
        /// and the clock. Mode 0600, or 0640 where it is root's; relative to this file.
        root: String,
        /// Key files of nginx (48 or 80 raw bytes each), the newest first, or one list of HAProxy's
        /// (base64, the newest last). The second newest seals, all open. Mode 0600, or 0640 where they are
        /// root's; relative to this file.
        keys: List<String>,
    }
}

/// `runtime.workers`: "auto" or a number.
#[derive(Debug)]
pub(super) enum RawWorkers {
    Auto,
    Count(u64),
}

/// `session_tickets.source`: "auto" or where keys come from.
#[derive(Debug)]
pub(super) enum RawTicketSource {
    Auto,
    Files(RawTicketFiles),
}

impl FromNode for RawWorkers {
    fn expected() -> String {
        "\"auto\" or a whole number".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value() {
            DeValue::Integer(_) => u64::from_node(node, problems).map(Self::Count),
            value if value.as_str() == Some("auto") => Some(Self::Auto),
            _ => {
                node.wrong_type(&Self::expected(), problems);
                None
            }
        }
    }
}

impl FromNode for RawTicketSource {
    fn expected() -> String {
        "\"auto\", { root = FILE } or { keys = [FILE] }".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value() {
            DeValue::Table(_) => RawTicketFiles::from_node(node, problems).map(Self::Files),
            value if value.as_str() == Some("auto") => Some(Self::Auto),
            _ => {
                node.wrong_type(&Self::expected(), problems);
                None
            }
        }
    }

    fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
        RawTicketFiles::keys_below(prefix, keys);
    }
}

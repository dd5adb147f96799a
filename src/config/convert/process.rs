//! The tables about the process: runtime, limits, admin, logs and session tickets.
//!
//! Next: `listener`.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::super::error::Problems;
use super::super::node::At;
use super::super::plan::{
    AccessLog, AccessLogSink, Account, Admin, AdminAddress, Drain, Io, Limits, Log, LogFormat,
    LogLevel, Runtime, Sandbox, SessionTickets, TicketSource, Workers,
};
use super::super::raw::{RawFile, RawRuntime, RawTicketFiles, RawTicketSource, RawWorkers};
use super::{all, choice, file, filled, number, plain, port_beyond, positive, required, shown};

/// More cores than any one machine has; a typing error beyond it.
const WORKERS_MAX: u16 = 1_024;
/// Each that is silent costs a look-up its time.
const RESOLVERS_MAX: usize = 8;
/// RFC 8446 §4.6.1: a ticket lives for seven days at most.
const TICKET_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Keys that are kept to open old tickets with; each is looked at when its tickets come back.
const TICKET_KEYS_MAX: u128 = 255;

pub(super) fn runtime(raw: &RawFile, problems: &mut Problems) -> Option<Runtime> {
    let table = raw.runtime.as_ref().map(|table| &table.value);
    let written = table.and_then(|table| table.io.as_ref());
    let drivers = [("auto", Io::Epoll), ("epoll", Io::Epoll), ("io_uring", Io::IoUring)];
    let io = choice(written, Io::Epoll, &drivers, problems);
    let io_at = written.filter(|_| io == Some(Io::IoUring)).map(|written| written.at.clone());
    let workers = workers(table.and_then(|table| table.workers.as_ref()), problems);
    let drain = drain(raw, problems);
    let watch = plain(table.and_then(|table| table.watch.as_ref()), true);
    let resolvers = resolvers(table.and_then(|table| table.resolvers.as_ref()), problems);
    let account = account(table, problems);
    let sandbox = sandbox(table.and_then(|table| table.sandbox.as_ref()), problems);
    let deadline = table.and_then(|table| table.upgrade_deadline.as_ref());
    let upgrade_deadline = positive(deadline, Duration::from_secs(60), problems);
    let (workers, io, drain, resolvers) = (workers?, io?, drain?, resolvers?);
    let (account, sandbox, upgrade_deadline) = (account?, sandbox?, upgrade_deadline?);
    Some(Runtime {
        workers,
        io,
        io_at,
        watch,
        drain,
        upgrade_deadline,
        resolvers,
        account,
        sandbox,
    })
}

/// `Some(None)`: nobody is named.
fn account(table: Option<&RawRuntime>, problems: &mut Problems) -> Option<Option<Account>> {
    let Some(table) = table else { return Some(None) };
    let user = match &table.user {
        Some(written) => Some(named(written, problems)?),
        None => None,
    };
    let group = match &table.group {
        Some(written) => Some(named(written, problems)?),
        None => None,
    };
    match (user, group) {
        (Some(user), group) => Some(Some(Account {
            user: user.value.clone(),
            user_at: user.at.clone(),
            group: group.map(|group| (group.value.clone(), group.at.clone())),
        })),
        (None, Some(group)) => {
            let help = "write runtime.user as well, or leave this key out";
            problems.add(group.at.clone(), "a group without a user", help);
            None
        }
        (None, None) => Some(None),
    }
}

fn named<'a>(written: &'a At<String>, problems: &mut Problems) -> Option<&'a At<String>> {
    if written.value.is_empty() {
        problems.add(written.at.clone(), "may not be empty", "write a name or a number");
        return None;
    }
    Some(written)
}

fn sandbox(written: Option<&At<String>>, problems: &mut Problems) -> Option<Sandbox> {
    let choices = [("auto", Sandbox::Auto), ("required", Sandbox::Required), ("off", Sandbox::Off)];
    choice(written, Sandbox::Auto, &choices, problems)
}

fn resolvers(
    written: Option<&At<Vec<At<String>>>>,
    problems: &mut Problems,
) -> Option<Vec<SocketAddr>> {
    let Some(written) = written else { return Some(Vec::new()) };
    if let Some(beyond) = written.value.get(RESOLVERS_MAX) {
        let message = format!("more than {RESOLVERS_MAX} name servers");
        problems.add(beyond.at.clone(), message, "write the nearest ones");
        return None;
    }
    all(&written.value, |element| {
        let address = element.value.parse().ok().filter(|address: &SocketAddr| address.port() > 0);
        if address.is_none() {
            let (message, help) = port_beyond(&element.value).unwrap_or_else(|| {
                let message = format!("{:?} is not \"IP:port\"", element.value);
                (message, "write an address such as \"10.0.0.2:53\"")
            });
            problems.add(element.at.clone(), message, help);
        }
        address
    })
}

fn workers(written: Option<&At<RawWorkers>>, problems: &mut Problems) -> Option<Workers> {
    let Some(At { value: RawWorkers::Count(count), at }) = written else {
        return Some(Workers::Auto);
    };
    let within = u16::try_from(*count).ok().filter(|count| *count <= WORKERS_MAX);
    let workers = within.and_then(NonZeroU16::new).map(Workers::Count);
    if workers.is_none() {
        let message = format!("{count} is not from 1 to {WORKERS_MAX}");
        problems.add(at.clone(), message, "write \"auto\" for one on each core");
    }
    workers
}

fn drain(raw: &RawFile, problems: &mut Problems) -> Option<Drain> {
    let written = raw.runtime.as_ref().and_then(|table| table.value.drain.as_ref());
    let table = written.map(|table| &table.value);
    let drain = Drain {
        grace: plain(table.and_then(|t| t.grace.as_ref()), Duration::ZERO),
        spread: plain(table.and_then(|t| t.spread.as_ref()), Duration::from_secs(10)),
        deadline: plain(table.and_then(|t| t.deadline.as_ref()), Duration::from_secs(30)),
    };
    if drain.deadline < drain.grace + drain.spread {
        let deadline = table.and_then(|table| table.deadline.as_ref()).map(|written| &written.at);
        if let Some(at) = deadline.or(written.map(|written| &written.at)) {
            let message = format!(
                "the deadline, {}, is before the end of grace and spread, {}",
                shown(drain.deadline),
                shown(drain.grace + drain.spread)
            );
            let help = "make deadline at least grace + spread";
            problems.add(at.clone(), message, help);
        }
        return None;
    }
    Some(drain)
}

pub(super) fn limits(raw: &RawFile) -> Limits {
    let table = raw.limits.as_ref().map(|table| &table.value);
    let connections = table.and_then(|table| table.connections.as_ref());
    let in_flight = table.and_then(|table| table.handshakes_in_flight.as_ref());
    let memory = table.and_then(|table| table.memory.as_ref());
    let per_second = table.and_then(|table| table.handshakes_per_second.as_ref());
    Limits {
        connections: limit(connections, 100_000),
        handshakes_in_flight: limit(in_flight, 4_096),
        handshakes_per_second: rate_limit(per_second),
        memory: memory.and_then(|written| NonZeroU64::new(written.value.0)),
    }
}

/// A limit in a time, or of one source, that 0 turns off.
pub(super) fn rate_limit(written: Option<&At<u64>>) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(plain(written, 0)).unwrap_or(u32::MAX))
}

/// A limit that 0 turns off. One beyond the address space limits nothing that could be reached.
pub(super) fn limit(written: Option<&At<u64>>, default: u64) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(plain(written, default)).unwrap_or(usize::MAX))
}

pub(in crate::config) fn admin(raw: &RawFile, problems: &mut Problems) -> Option<Option<Admin>> {
    let Some(table) = &raw.admin else { return Some(None) };
    let example = ("listen", "\"127.0.0.1:9901\"");
    let listen = required(table.value.listen.as_ref(), &table.at, example, problems)?;
    if let Some(path) = listen.value.strip_prefix("unix:") {
        let at = listen.at.clone();
        let path = file(&At { value: path.to_owned(), at }, problems)?;
        return Some(Some(Admin { at: path.at, address: AdminAddress::Unix(path.path) }));
    }
    let Ok(address) = listen.value.parse::<SocketAddr>() else {
        let (message, help) = port_beyond(&listen.value)
            .map(|(message, help)| (message, help.to_owned()))
            .unwrap_or_else(|| {
                let message =
                    format!("{:?} is neither \"IP:port\" nor \"unix:PATH\"", listen.value);
                (message, format!("write listen = {}", example.1))
            });
        problems.add(listen.at.clone(), message, help);
        return None;
    };
    if !address.ip().to_canonical().is_loopback()
        && !plain(table.value.allow_remote.as_ref(), false)
    {
        let message = format!("{address} can be reached from other machines");
        let help = "the admin pages ask for no password: listen on 127.0.0.1 or \"unix:PATH\", or write \
                    allow_remote = true to show /livez, /readyz and /metrics, and nothing else, to others";
        problems.add(listen.at.clone(), message, help);
        return None;
    }
    Some(Some(Admin { at: listen.at.clone(), address: AdminAddress::Tcp(address) }))
}

pub(super) fn log(raw: &RawFile, problems: &mut Problems) -> Option<Log> {
    let table = raw.log.as_ref().map(|table| &table.value);
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let level = choice(table.and_then(|t| t.level.as_ref()), LogLevel::Info, &levels, problems);
    let format = format(table.and_then(|t| t.format.as_ref()), LogFormat::Text, problems);
    Some(Log { level: level?, format: format? })
}

pub(super) fn access_log(raw: &RawFile, problems: &mut Problems) -> Option<AccessLog> {
    let table = raw.access_log.as_ref().map(|table| &table.value);
    let path = table.and_then(|table| table.path.as_ref());
    let at = path.map(|path| path.at.clone());
    let sink = match path {
        None => Some(AccessLogSink::Stdout),
        Some(written) => match written.value.as_str() {
            "stdout" => Some(AccessLogSink::Stdout),
            "off" => Some(AccessLogSink::Off),
            _ => file(written, problems).map(|file| AccessLogSink::File(file.path)),
        },
    };
    let format = format(table.and_then(|t| t.format.as_ref()), LogFormat::Json, problems);
    let refusals = table.and_then(|table| table.refusals_per_second.as_ref());
    let refusals = number(refusals, 1_000, 0..=u32::MAX, problems);
    let refusals_per_second = NonZeroU32::new(refusals?);
    Some(AccessLog { at, sink: sink?, format: format?, refusals_per_second })
}

fn format(
    written: Option<&At<String>>,
    default: LogFormat,
    problems: &mut Problems,
) -> Option<LogFormat> {
    choice(written, default, &[("text", LogFormat::Text), ("json", LogFormat::Json)], problems)
}

pub(super) fn session_tickets(raw: &RawFile, problems: &mut Problems) -> Option<SessionTickets> {
    let table = raw.session_tickets.as_ref().map(|table| &table.value);
    let rotate_at = table.and_then(|table| table.rotate.as_ref());
    let lifetime_at = table.and_then(|table| table.lifetime.as_ref());
    let source = ticket_source(table.and_then(|table| table.source.as_ref()), problems);
    let rotate = positive(rotate_at, Duration::from_secs(60 * 60), problems);
    let lifetime = positive(lifetime_at, Duration::from_secs(12 * 60 * 60), problems);
    let tickets = SessionTickets { source: source?, rotate: rotate?, lifetime: lifetime? };
    if let Some(At { value, at }) = rotate_at.filter(|written| written.value.subsec_nanos() > 0) {
        let message = format!("{} is not a whole number of seconds", shown(*value));
        problems.add(at.clone(), message, "epochs are counted in seconds: write at least \"1s\"");
        return None;
    }
    if tickets.lifetime > TICKET_LIFETIME_MAX {
        if let Some(lifetime) = lifetime_at {
            let message = format!("{} is longer than a ticket may live", shown(lifetime.value));
            problems.add(lifetime.at.clone(), message, "write at most \"7d\" (RFC 8446 §4.6.1)");
        }
        return None;
    }
    let keys = tickets.lifetime.as_millis().div_ceil(tickets.rotate.as_millis().max(1));
    if keys > TICKET_KEYS_MAX {
        let rotate_at = rotate_at.map(|written| &written.at);
        if let Some(at) = rotate_at.or(lifetime_at.map(|written| &written.at)) {
            let message = format!(
                "a new key every {} for tickets that live {} makes {keys} keys to keep, the limit \
                 is {TICKET_KEYS_MAX}",
                shown(tickets.rotate),
                shown(tickets.lifetime)
            );
            problems.add(at.clone(), message, "rotate less often, or let tickets live less long");
        }
        return None;
    }
    Some(tickets)
}

fn ticket_source(
    written: Option<&At<RawTicketSource>>,
    problems: &mut Problems,
) -> Option<TicketSource> {
    let Some(At { value: RawTicketSource::Files(files), at }) = written else {
        return Some(TicketSource::Auto);
    };
    let example = ("keys", "[\"next.key\", \"current.key\", \"previous.key\"]");
    match files {
        RawTicketFiles { root: Some(_), keys: Some(keys) } => {
            let help = "leave one of them out: keys follow from a root, or are written one by one";
            problems.add(keys.at.clone(), "root and keys are both written", help);
            None
        }
        RawTicketFiles { root: Some(root), keys: None } => {
            file(root, problems).map(TicketSource::Root)
        }
        RawTicketFiles { root: None, keys: Some(keys) } => {
            let written = filled(keys, example, problems)?;
            let files = all(written, |path| file(path, problems))?;
            for (index, key) in files.iter().enumerate() {
                if let Some(first) = files.iter().take(index).position(|it| it.path == key.path) {
                    let message = format!("the same file as keys[{first}]");
                    let help = "each key once: the newest first, the second newest seals";
                    problems.add(key.at.clone(), message, help);
                    return None;
                }
            }
            Some(TicketSource::Keys(files))
        }
        RawTicketFiles { root: None, keys: None } => {
            let is_told =
                ["root", "keys"].iter().any(|key| problems.is_excused(&at.child(key).key));
            if !is_told {
                let help = "write { root = FILE }, { keys = [FILE] } or \"auto\"";
                problems.add(at.clone(), "names no file", help);
            }
            None
        }
    }
}

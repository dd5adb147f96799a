//! Who is connected to the admin endpoint, and who makes room when there are too many.
//!
//! A probe that waits for a place fails, and an orchestrator then ends the process: so nobody waits. Who
//! comes when all places are taken gets the place of somebody of whom nothing comes. A connection moves
//! by a whole question and by each byte of the answer that it takes; what trickles in before a question is
//! whole does not count. // threat 44

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::sys::clock;

/// All who are connected.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Times are counted from here.
    since: Instant,
    guests: Mutex<Vec<Weak<Guest>>>,
}

/// One connection; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    source: Source,
    since: Instant,
    /// Microseconds from `since`.
    moved_at: AtomicU64,
    /// A question of it is being answered.
    is_asking: AtomicBool,
    /// It does not take what is written to it.
    is_stuck: AtomicBool,
    leave: Notify,
}

/// Where somebody comes from, as far as one may have many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// Of IPv6 the /64, all of which is one machine's.
    Address(IpAddr),
    /// The file of the unix socket.
    File,
}

/// The stream of a guest, that tells when it takes what is written.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub stream: S,
    pub guest: Arc<Guest>,
}

impl Crowd {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, guests: Mutex::default() }
    }

    pub(super) fn enter(&self, source: Source, now: Instant) -> Arc<Guest> {
        let guest = Arc::new(Guest {
            source,
            since: self.since,
            moved_at: AtomicU64::default(),
            is_asking: AtomicBool::default(),
            is_stuck: AtomicBool::default(),
            leave: Notify::new(),
        });
        guest.moved(now);
        let mut guests = self.lock();
        guests.retain(|guest| guest.strong_count() > 0);
        guests.push(Arc::downgrade(&guest));
        guest
    }

    /// Sends one away, and says from where: of the source that has the most beyond what anybody may need, one
    /// that has no question, and of these the one that has not moved for longest.
    pub(super) fn make_room(&self) -> Option<Source> {
        let guests = self.here();
        let mut crowds: HashMap<Source, usize> = HashMap::new();
        for guest in &guests {
            *crowds.entry(guest.source).or_default() += 1;
        }
        let by_turn = |guest: &&Arc<Guest>| {
            let excess = crowds[&guest.source].saturating_sub(OF_ONE_SOURCE);
            let is_asking = guest.is_asking.load(Ordering::Relaxed);
            (Reverse(excess), is_asking, guest.moved_at.load(Ordering::Relaxed))
        };
        let guest = guests.iter().min_by_key(by_turn)?;
        guest.leave.notify_one();
        Some(guest.source)
    }

    /// Sends all away who have taken nothing of what is written to them for so long.
    pub(super) fn send_stuck_away(&self, now: Instant, patience: Duration) {
        for guest in self.here() {
            let moved_at =
                self.since + Duration::from_micros(guest.moved_at.load(Ordering::Relaxed));
            let is_late = now.saturating_duration_since(moved_at) >= patience;
            if is_late && guest.is_stuck.load(Ordering::Relaxed) {
                guest.leave.notify_one();
            }
        }
    }

    fn here(&self) -> Vec<Arc<Guest>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Guest>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    pub(super) fn asks(&self, now: Instant) {
        self.is_asking.store(true, Ordering::Relaxed);
        self.moved(now);
    }

    /// What it gets is still to be written.
    pub(super) fn is_answered(&self, now: Instant) {
        self.is_asking.store(false, Ordering::Relaxed);
        self.moved(now);
    }

    /// Ends when another needs the place.
    pub(super) async fn is_sent_away(&self) {
        self.leave.notified().await;
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        self.is_stuck.store(result.is_pending(), Ordering::Relaxed);
        if matches!(result, Poll::Ready(Ok(_))) {
            self.moved(clock::now());
        }
    }

    fn moved(&self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.moved_at.store(passed, Ordering::Relaxed);
    }
}

impl Source {
    pub(super) fn of(peer: IpAddr) -> Self {
        Self::Address(match peer.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(v4 @ IpAddr::V4(_)) => v4.fmt(f),
            Self::Address(v6 @ IpAddr::V6(_)) => write!(f, "{v6}/64"),
            Self::File => f.write_str("the unix socket"),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guest.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.guest.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections that one source may hold without going before others: a browser opens six.
const OF_ONE_SOURCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    /// Whether it has been sent away.
    fn leaves(guest: &Guest) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(guest.is_sent_away()).poll(&mut context).is_ready()
    }

    fn at(millis: u64, since: Instant) -> Instant {
        since + Duration::from_millis(millis)
    }

    #[test]
    fn the_one_that_has_not_moved_for_longest_makes_room() {
        let since = clock::now();
        let crowd = Crowd::new(since);
        let here: Vec<_> =
            (0..4).map(|each| crowd.enter(source("10.0.0.1"), at(each, since))).collect();
        // The first has a question that takes its time, the second has just been answered, the third
        // does not read.
        here[0].asks(at(5, since));
        here[1].asks(at(6, since));
        here[1].is_answered(at(7, since));
        here[2].wrote(&Poll::Pending);
        for expected in [2, 3, 1, 0] {
            assert_eq!(crowd.make_room(), Some(source("10.0.0.1")));
            let left: Vec<_> = (0..4).filter(|each| leaves(&here[*each])).collect();
            assert_eq!(left, [expected]);
            // Gone: not the next any more.
            here[expected].asks(at(100, since));
        }
    }

    #[test]
    fn a_crowd_from_one_source_makes_room_before_anybody_else() {
        let since = clock::now();
        let crowd = Crowd::new(since);
        let idle = crowd.enter(source("2001:db8:1::1"), since);
        // Eight may be a browser's and come in turn; the ninth makes a crowd, of one machine here.
        let many: Vec<_> = (2..11_u64)
            .map(|each| crowd.enter(source(&format!("2001:db8:2::{each:x}")), at(each, since)))
            .collect();
        many[0].asks(at(20, since));
        assert_eq!(crowd.make_room().map(|it| it.to_string()).as_deref(), Some("2001:db8:2::/64"));
        assert!(leaves(&many[1]) && !leaves(&idle));
        drop(many);
        assert_eq!(crowd.make_room(), Some(source("2001:db8:1::")));
        assert!(leaves(&idle));
        drop(idle);
        assert_eq!(crowd.make_room(), None);
    }

    #[test]
    fn who_takes_nothing_is_told_from_who_has_nothing_to_take() {
        let since = clock::now();
        let crowd = Crowd::new(since);
        let [stuck, slow, idle] = [0; 3].map(|_| crowd.enter(Source::File, since));
        for guest in [&stuck, &slow] {
            guest.wrote(&Poll::Pending);
        }
        slow.moved(at(1, since));
        crowd.send_stuck_away(at(1_000, since), Duration::from_secs(1));
        assert_eq!((leaves(&stuck), leaves(&slow), leaves(&idle)), (true, false, false));
        slow.wrote(&Poll::Ready(Ok(1)));
        crowd.send_stuck_away(at(1_000_000, since), Duration::from_secs(1));
        assert!(!leaves(&slow));
    }
}

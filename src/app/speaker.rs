//! The thread that speaks to the supervisor. Its socket takes a few messages and then keeps whoever sends one
//! waiting until somebody reads, which control must not do. `supervisor` says what is said.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Says things in their order, and when that can be done.
#[derive(Debug)]
pub(super) struct Speaker {
    messages: SyncSender<Message>,
    /// What waits to be said, and what is being said.
    unsaid: Arc<AtomicUsize>,
}

enum Message {
    Say(Box<dyn FnOnce() -> io::Result<()> + Send>),
    /// Whoever waits until here is told.
    Mark(SyncSender<()>),
}

impl Speaker {
    /// # Errors
    /// There can be no thread.
    pub(super) fn new() -> io::Result<Self> {
        let (messages, said) = sync_channel(UNSAID_MAX);
        let unsaid = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&unsaid);
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || speak(&said, &counted))?;
        Ok(Self { messages, unsaid })
    }

    /// False where so much waits already that this will not be said.
    pub(super) fn say(&self, message: impl FnOnce() -> io::Result<()> + Send + 'static) -> bool {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let is_taken = self.messages.try_send(Message::Say(Box::new(message))).is_ok();
        if !is_taken {
            self.unsaid.fetch_sub(1, Ordering::Relaxed);
        }
        is_taken
    }

    pub(super) fn has_said_all(&self) -> bool {
        self.unsaid.load(Ordering::Relaxed) == 0
    }

    /// Waits until all is said, for so long at most.
    pub(super) fn finish(&self, patience: Duration) {
        let (mark, is_there) = sync_channel(1);
        if self.messages.try_send(Message::Mark(mark)).is_ok() {
            // Late or not, whoever waits goes on.
            let _ = is_there.recv_timeout(patience);
        }
    }
}

/// Until nobody has anything to say any more.
fn speak(messages: &Receiver<Message>, unsaid: &AtomicUsize) {
    let mut is_failing = false;
    for message in messages {
        match message {
            Message::Say(say) => {
                let said = say();
                unsaid.fetch_sub(1, Ordering::Relaxed);
                if let Err(error) = &said
                    && !is_failing
                {
                    tracing::warn!(%error, "the supervisor in NOTIFY_SOCKET cannot be told anything");
                }
                is_failing = said.is_err();
            }
            // Nobody waits any more where it took too long.
            Message::Mark(mark) => drop(mark.try_send(())),
        }
    }
}

/// A supervisor that reads nothing for so many messages is gone.
const UNSAID_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use portcullis_kit::{PATIENCE, eventually};

    use super::*;

    #[test]
    fn what_cannot_be_said_keeps_nobody_waiting_and_what_is_said_keeps_its_order() {
        let speaker = Speaker::new().unwrap();
        let (told, heard) = channel();
        let (read, is_read) = channel::<()>();
        let first = told.clone();
        assert!(speaker.say(move || {
            let _ = is_read.recv();
            first.send(0).map_err(io::Error::other)
        }));
        let mut count = 1;
        // One is being said at most.
        while count <= UNSAID_MAX + 1 {
            let told = told.clone();
            if !speaker.say(move || told.send(count).map_err(io::Error::other)) {
                break;
            }
            count += 1;
        }
        assert!((UNSAID_MAX..=UNSAID_MAX + 1).contains(&count), "{count}");
        speaker.finish(Duration::from_millis(1));
        assert!(!speaker.has_said_all());
        read.send(()).unwrap();
        eventually(PATIENCE, "the end", || speaker.has_said_all().then_some(()));
        speaker.finish(PATIENCE);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    }
}

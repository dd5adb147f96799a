//! Upgrade in place, the side of the process that serves: the program that stands in its place now is
//! started, gets the listening sockets and the ticket keys, and says that it can serve; only then this
//! one lets go and drains.
//!
//! Sockets and keys go through a pair of connected sockets, from memory to memory: nothing is written
//! to a file, the environment or a command line. Until the new process is ready nothing has changed, and
//! whatever keeps it from that ends the attempt and not the service. `takeover` is its side, `note` what
//! the two say, `command` how a person asks for it.

pub mod command;
mod note;
mod takeover;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use zeroize::Zeroizing;

use self::note::{AdminAt, Note, VERSION};
pub use self::takeover::{Takeover, TakeoverError};
use super::gateway::Gateway;
use crate::admin::AdminShare;
use crate::sys::channel::{Channel, DESCRIPTORS_MAX};
use crate::sys::clock;
use crate::sys::program::Program;
use crate::worker::ListenerKey;

/// Set in the environment of the new process. It says no more than that its standard input is a channel.
const VARIABLE: &str = "PORTCULLIS_TAKES_OVER";

/// Of a machine, or of a namespace: the kernel ends all others with it (pid_namespaces(7)).
const FIRST_PROCESS: u32 = 1;

/// Attempts to put another process in the place of this one; one at a time.
#[derive(Debug)]
pub struct Upgrades {
    program: io::Result<Program>,
    attempt: Option<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    child: Child,
    until: Instant,
    patience: Duration,
    /// Listeners by where they listen.
    offered: Vec<(ListenerKey, SocketAddr)>,
    talk: JoinHandle<io::Result<(Channel, Option<Note>)>>,
}

/// A process that can serve and waits for this one to let go.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: Channel,
    /// The listeners whose sockets it goes on with.
    pub passed_on: Arc<[ListenerKey]>,
    /// It goes on with the socket of the admin pages.
    pub has_admin: bool,
}

/// Why this process goes on to serve.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("an upgrade is under way already")]
    UnderWay,
    #[error(
        "this is the first process of a container, which would end with it and take the new one along: \
         replace the container instead"
    )]
    FirstProcess,
    #[error("this process does not know where its program stands")]
    Program(#[source] io::Error),
    #[error("the program {program} could not be started{}", remedy(source))]
    Start { program: String, source: io::Error },
    #[error("the new process could not start: {0}")]
    Refused(String),
    #[error(
        "the new process ended before it was ready ({0}): what it said stands above, or try \
         `portcullis check` with the new program"
    )]
    Died(ExitStatus),
    #[error(
        "the new process was not ready within {0:?} and was ended: see what it waits for, or raise \
         runtime.upgrade_deadline"
    )]
    Late(Duration),
    #[error("nothing could be handed over to the new process")]
    HandOver(#[source] io::Error),
    #[error("the new process says what this one does not understand: restart instead")]
    Unexpected,
    #[error("the process was told to end meanwhile")]
    Ending,
}

/// What to do about a program that cannot be started.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (it must be executable, and in the sandbox it needs a folder without other programs: \
             otherwise restart)"
        }
        _ => "",
    }
}

/// What came of an attempt.
pub type Outcome = Result<Successor, UpgradeError>;

impl Upgrades {
    pub fn new(program: io::Result<Program>) -> Self {
        Self { program, attempt: None }
    }

    pub fn is_running(&self) -> bool {
        self.attempt.is_some()
    }

    /// Starts the new process and hands everything over to it; `next` says what comes of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(
        &mut self,
        gateway: &Gateway,
        admin: Option<&AdminShare>,
        patience: Duration,
    ) -> Result<(), UpgradeError> {
        if self.is_running() {
            return Err(UpgradeError::UnderWay);
        }
        if std::process::id() == FIRST_PROCESS {
            return Err(UpgradeError::FirstProcess);
        }
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => return Err(UpgradeError::Program(error.kind().into())),
        };
        let offer = Offer::of(gateway, admin).map_err(UpgradeError::HandOver)?;
        let offered = offer.listeners.iter().map(|it| (it.key, it.address)).collect();
        let (channel, theirs) = Channel::pair().map_err(UpgradeError::HandOver)?;
        channel.set_patience(Some(patience)).map_err(UpgradeError::HandOver)?;
        let child = program.start(theirs, (VARIABLE, "1")).map_err(|source| {
            UpgradeError::Start { program: program.path().display().to_string(), source }
        })?;
        tracing::info!(
            process = child.id(), program = %program.path().display(),
            "upgrade: the new process starts"
        );
        let talk = tokio::task::spawn_blocking(move || {
            offer.send(&channel)?;
            let answer = channel.receive()?;
            let answer = answer.map(|message| Note::read(&message)).transpose()?;
            Ok((channel, answer))
        });
        let until = clock::now() + patience;
        self.attempt = Some(Attempt { child, until, patience, offered, talk });
        Ok(())
    }

    /// Waits for the end of an attempt; for ever where there is none. May be dropped and called again.
    pub async fn next(&mut self) -> Outcome {
        let Some(attempt) = &mut self.attempt else { return std::future::pending().await };
        let talked = timeout_at(attempt.until.into(), &mut attempt.talk).await;
        let Some(Attempt { mut child, patience, offered, .. }) = self.attempt.take() else {
            return std::future::pending().await;
        };
        let failed = match talked {
            Ok(Ok(Ok((channel, Some(Note::Ready { left, admin }))))) => {
                let is_passed_on = |(key, address)| (!left.contains(&address)).then_some(key);
                let passed_on = offered.into_iter().filter_map(is_passed_on).collect();
                return Ok(Successor { child, channel, passed_on, has_admin: admin });
            }
            Ok(Ok(Ok((_, Some(Note::Failed { why }))))) => UpgradeError::Refused(why),
            Ok(Ok(Ok((_, Some(_))))) => UpgradeError::Unexpected,
            Ok(Ok(Ok((_, None)))) => return Err(died(&mut child)),
            Ok(Ok(Err(error))) if is_gone(&error) => return Err(died(&mut child)),
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::WouldBlock => {
                UpgradeError::HandOver(error)
            }
            Ok(Err(_panic)) => UpgradeError::Unexpected,
            Ok(Ok(Err(_))) | Err(_) => UpgradeError::Late(patience),
        };
        end(&mut child);
        Err(failed)
    }

    /// Ends an attempt that is under way.
    pub fn cancel(&mut self) -> Option<UpgradeError> {
        let mut attempt = self.attempt.take()?;
        end(&mut attempt.child);
        Some(UpgradeError::Ending)
    }
}

impl Successor {
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Lets it serve.
    ///
    /// # Errors
    /// It has ended meanwhile; this process must go on.
    pub fn go(&mut self) -> Result<(), UpgradeError> {
        match Note::Go.send(&self.channel, &[]) {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => Err(died(&mut self.child)),
            Err(error) => {
                end(&mut self.child);
                Err(UpgradeError::HandOver(error))
            }
        }
    }

    /// Has it load its configuration once more.
    pub fn reload(&self) {
        let _is_gone = kill_process(Pid::from_child(&self.child), Signal::HUP);
    }
}

/// What is handed over.
struct Offer {
    listeners: Vec<OfferedListener>,
    /// With whether its file is to be removed at the end.
    admin: Option<(AdminAt, OwnedFd, bool)>,
    tickets: Option<Zeroizing<Vec<u8>>>,
}

struct OfferedListener {
    key: ListenerKey,
    name: String,
    configured: SocketAddr,
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Offer {
    fn of(gateway: &Gateway, admin: Option<&AdminShare>) -> io::Result<Self> {
        let listeners = gateway.sockets().into_iter().map(|held| {
            Ok(OfferedListener {
                key: held.key,
                name: held.name.to_string(),
                configured: held.configured,
                address: held.address,
                sockets: held
                    .sockets
                    .iter()
                    .map(TcpListener::try_clone)
                    .collect::<Result<_, _>>()?,
            })
        });
        let admin = admin.map(|share| {
            let socket = share.socket()?;
            Ok::<_, io::Error>((share.address().into(), socket, share.owns_file()))
        });
        Ok(Self {
            listeners: listeners.collect::<io::Result<_>>()?,
            admin: admin.transpose()?,
            tickets: gateway.stek().export(),
        })
    }

    fn send(&self, channel: &Channel) -> io::Result<()> {
        Note::Hello { version: VERSION }.send(channel, &[])?;
        for OfferedListener { name, configured, address, sockets, .. } in &self.listeners {
            let (name, configured, address) = (name.clone(), *configured, *address);
            let note = Note::Listener { name, configured, address };
            for some in sockets.chunks(DESCRIPTORS_MAX) {
                let descriptors: Vec<_> = some.iter().map(AsFd::as_fd).collect();
                note.send(channel, &descriptors)?;
            }
        }
        if let Some((at, socket, owns_file)) = &self.admin {
            Note::Admin { at: at.clone(), owns_file: *owns_file }
                .send(channel, &[socket.as_fd()])?;
        }
        if let Some(keys) = &self.tickets {
            Note::Tickets.send(channel, &[])?;
            channel.send(keys, &[])?;
        }
        Note::End.send(channel, &[])
    }
}

/// The other end of the channel is closed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Its channel is closed, so it has ended or is about to.
fn died(child: &mut Child) -> UpgradeError {
    let moment = Timespec { tv_sec: 1, tv_nsec: 0 };
    if let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        let _is_over = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&moment));
    }
    end(child);
    match child.wait() {
        Ok(status) => UpgradeError::Died(status),
        Err(error) => UpgradeError::HandOver(error),
    }
}

/// Ends a process of our own that serves nobody.
fn end(child: &mut Child) {
    // One that has ended already keeps the status that it ended with.
    drop(child.kill());
    drop(child.wait());
}

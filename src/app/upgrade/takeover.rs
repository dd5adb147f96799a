//! The new process' side of an upgrade: what it gets, and when it may serve.
//!
//! `run` asks for it first of all. The other side is `mod`.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::VARIABLE;
use super::note::{AdminAt, Note, VERSION};
use crate::admin::AdminSocket;
use crate::app::gateway::Given;
use crate::app::inherited::{GivenAdmin, GivenListener, Giver};
use crate::sys::channel::{Channel, Message};
use crate::sys::program;

/// The process that this one is to take the place of.
#[derive(Debug)]
pub struct Takeover {
    channel: Channel,
    /// It was told how it went.
    is_over: Cell<bool>,
}

/// Why a process cannot take the place of another.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error(
        "{VARIABLE} is set, and whoever started this process hands over nothing: start it without \
         this variable of the environment"
    )]
    Channel(#[source] io::Error),
    #[error("the process to take over from has ended")]
    Gone,
    #[error(
        "the process to take over from speaks version {0} of the handover, this program {VERSION}: \
         stop it and start this one"
    )]
    Version(u32),
    #[error("the process to take over from says what this program does not understand")]
    Unexpected,
}

impl Takeover {
    /// `None`: the process was started to serve by itself.
    ///
    /// # Errors
    /// It should take over, and there is nobody to take over from.
    pub fn find() -> Result<Option<Self>, TakeoverError> {
        if program::variable(VARIABLE).is_none() {
            return Ok(None);
        }
        let channel = Channel::from_stdin().map_err(TakeoverError::Channel)?;
        channel.set_patience(Some(OFFER_PATIENCE)).map_err(TakeoverError::Channel)?;
        Ok(Some(Self { channel, is_over: Cell::new(false) }))
    }

    /// Takes what is handed over.
    ///
    /// # Errors
    /// It does not come, or makes no sense.
    pub fn accept(&self) -> Result<Given, TakeoverError> {
        let mut given = Given::default();
        match self.next()? {
            (Note::Hello { version: VERSION }, _) => {}
            (Note::Hello { version }, _) => return Err(TakeoverError::Version(version)),
            _ => return Err(TakeoverError::Unexpected),
        }
        loop {
            match self.next()? {
                (Note::Listener { name, configured, address }, descriptors) => {
                    let sockets = descriptors.into_iter().map(Into::into).collect();
                    let giver = Giver::Predecessor;
                    given.sockets.add(GivenListener { giver, name, configured, address, sockets });
                }
                (Note::Admin { at, owns_file }, descriptors) => {
                    let Some(socket) = descriptors.into_iter().next() else {
                        return Err(TakeoverError::Unexpected);
                    };
                    given.sockets.add_admin(admin(at, socket, owns_file));
                }
                (Note::Tickets, _) => given.tickets = Some(self.receive()?.bytes),
                (Note::End, _) => return Ok(given),
                (Note::Hello { .. } | Note::Ready { .. } | Note::Failed { .. } | Note::Go, _) => {
                    return Err(TakeoverError::Unexpected);
                }
            }
        }
    }

    /// Says that this process can serve, and waits until the other one has let go. It goes on with
    /// nothing of `left`, and with the socket of the admin pages if `admin`.
    ///
    /// # Errors
    /// The other one wants something else.
    pub fn commit(&self, left: Vec<SocketAddr>, admin: bool) -> Result<(), TakeoverError> {
        // As long as it takes: the other one ends this process if it takes too long for it, and from
        // its answer on there is no way back for either.
        self.channel.set_patience(None).map_err(TakeoverError::Channel)?;
        self.is_over.set(true);
        let ready = Note::Ready { left, admin };
        if ready.send(&self.channel, &[]).is_err() {
            tell_alone();
            return Ok(());
        }
        match self.next() {
            Ok((Note::Go, _)) => Ok(()),
            Err(TakeoverError::Gone) => {
                tell_alone();
                Ok(())
            }
            Ok(_) => Err(TakeoverError::Unexpected),
            Err(error) => Err(error),
        }
    }

    /// Says why this process cannot serve, unless it said that it can.
    pub fn fail(&self, why: &str) {
        if !self.is_over.replace(true) {
            let end = why.floor_char_boundary(WHY_BYTES_MAX);
            let note = Note::Failed { why: why[..end].to_owned() };
            // Who does not hear it sees that this process ends.
            drop(note.send(&self.channel, &[]));
        }
    }

    fn next(&self) -> Result<(Note, Vec<OwnedFd>), TakeoverError> {
        let message = self.receive()?;
        match Note::read(&message) {
            Ok(note) => Ok((note, message.descriptors)),
            Err(_) => Err(TakeoverError::Unexpected),
        }
    }

    fn receive(&self) -> Result<Message, TakeoverError> {
        self.channel.receive().map_err(TakeoverError::Channel)?.ok_or(TakeoverError::Gone)
    }
}

/// The sockets are here and nobody else serves them.
fn tell_alone() {
    tracing::warn!("the process to take over from ended before it let go: serving without it");
}

fn admin(at: AdminAt, socket: OwnedFd, owns_file: bool) -> GivenAdmin {
    let socket = match at {
        AdminAt::Tcp(_) => AdminSocket::Tcp(socket.into()),
        AdminAt::Unix(_) => AdminSocket::Unix(socket.into()),
    };
    GivenAdmin { giver: Giver::Predecessor, address: at.into(), socket, owns_file }
}

/// It is sent before this process runs.
const OFFER_PATIENCE: Duration = Duration::from_secs(10);

/// Escaped as JSON it may be twice as long.
const WHY_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Channel, Takeover) {
        let (old, theirs) = Channel::pair().unwrap();
        let channel = Channel::from(theirs);
        for end in [&old, &channel] {
            end.set_patience(Some(OFFER_PATIENCE)).unwrap();
        }
        (old, Takeover { channel, is_over: Cell::new(false) })
    }

    fn told(old: &Channel) -> Note {
        Note::read(&old.receive().unwrap().unwrap()).unwrap()
    }

    #[test] // threat 37
    fn all_that_is_handed_over_is_taken_in_whatever_pieces_it_comes() {
        let (old, takeover) = pair();
        let sockets: Vec<_> =
            (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = sockets[0].local_addr().unwrap();
        let edge = || Note::Listener { name: "edge".to_owned(), configured: address, address };
        Note::Hello { version: VERSION }.send(&old, &[]).unwrap();
        edge().send(&old, &[sockets[0].as_fd(), sockets[1].as_fd()]).unwrap();
        edge().send(&old, &[sockets[2].as_fd()]).unwrap();
        Note::Tickets.send(&old, &[]).unwrap();
        old.send(b"keys", &[]).unwrap();
        Note::End.send(&old, &[]).unwrap();
        let Given { sockets, tickets } = takeover.accept().unwrap();
        assert_eq!(sockets.addresses().collect::<Vec<_>>(), [address]);
        assert_eq!(tickets.unwrap().as_slice(), b"keys");
        Note::Go.send(&old, &[]).unwrap();
        takeover.commit(vec![address], false).unwrap();
        assert_eq!(told(&old), Note::Ready { left: vec![address], admin: false });
        takeover.fail("too late to be told");
        drop(takeover);
        assert!(old.receive().unwrap().is_none());
    }

    #[test] // threat 37
    fn another_version_and_other_words_are_refused_with_the_reason() {
        let (old, takeover) = pair();
        Note::Hello { version: VERSION + 1 }.send(&old, &[]).unwrap();
        let error = takeover.accept().unwrap_err();
        assert!(matches!(error, TakeoverError::Version(version) if version == VERSION + 1));
        for word in [&b"{\"listen\":1}"[..], b"\xff"] {
            let (old, takeover) = pair();
            old.send(word, &[]).unwrap();
            assert!(matches!(takeover.accept(), Err(TakeoverError::Unexpected)), "{word:?}");
        }
        takeover.fail(&"é".repeat(WHY_BYTES_MAX));
        let Note::Failed { why } = told(&old) else { panic!("no failure") };
        assert_eq!(why, "é".repeat(WHY_BYTES_MAX / 2));
    }

    #[test] // threat 37
    fn whoever_is_left_alone_serves_if_it_can_and_ends_if_it_cannot_yet() {
        let (old, takeover) = pair();
        drop(old);
        assert!(matches!(takeover.accept(), Err(TakeoverError::Gone)));
        takeover.commit(Vec::new(), true).unwrap();
    }
}

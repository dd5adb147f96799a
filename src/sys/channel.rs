//! A channel between two processes that carries messages with descriptors: a pair of connected unix
//! sockets (unix(7), SOCK_SEQPACKET), of which a child process gets one as its standard input.
//!
//! What the messages mean is `app`'s.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};
use rustix::pipe::{PipeFlags, pipe_with};
use zeroize::Zeroizing;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One message.
#[derive(Debug)]
pub struct Message {
    /// May be secret.
    pub bytes: Zeroizing<Vec<u8>>,
    pub descriptors: Vec<OwnedFd>,
}

/// As many as the kernel takes in one message (SCM_MAX_FD).
pub const DESCRIPTORS_MAX: usize = 253;

/// Well below what a socket's buffer takes (net.core.wmem_default, 208 KiB).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

impl Channel {
    /// Both ends; the second one is for the standard input of a child.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(ours), theirs))
    }

    /// Takes the standard input of this process, if it is such a channel, and leaves one that has ended.
    pub fn from_stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        let is_channel = sockopt::socket_domain(stdin.as_fd()) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(stdin.as_fd()) == Ok(SocketType::SEQPACKET);
        if !is_channel {
            return Err(io::Error::other("standard input is no channel to another process"));
        }
        let channel = Self::from(stdin.as_fd().try_clone_to_owned()?);
        // Not /dev/null, which a sandbox may have closed.
        let (ended, _writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::stdio::dup2_stdin(ended)?;
        Ok(channel)
    }

    /// How long a call may wait for the other side; `None`: as long as it takes.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, patience)?;
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, patience)?)
    }

    /// # Errors
    /// The other side is gone or does not read, or the message is too long.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next message; `None` once the other side is gone. Messages are never empty.
    ///
    /// # Errors
    /// It does not come in time, or was cut.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            // Who dies with messages unread resets.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "a message was cut: too long, or no descriptors are left",
            ));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        Ok(Some(Message { bytes, descriptors }))
    }
}

impl From<OwnedFd> for Channel {
    /// The other end of a pair.
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors_and_the_end_is_seen() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from(theirs);
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        ours.send(b"three", &borrowed).unwrap();
        ours.send(&[7; MESSAGE_BYTES_MAX], &[]).unwrap();
        let first = theirs.receive().unwrap().unwrap();
        assert_eq!((&first.bytes[..], first.descriptors.len()), (&b"three"[..], 3));
        for (got, sent) in first.descriptors.into_iter().zip(&listeners) {
            let flags = rustix::io::fcntl_getfd(&got).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            assert_eq!(TcpListener::from(got).local_addr().unwrap(), sent.local_addr().unwrap());
        }
        let second = theirs.receive().unwrap().unwrap();
        assert_eq!((second.bytes.len(), second.descriptors.len()), (MESSAGE_BYTES_MAX, 0));
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
        assert_eq!(theirs.send(b"late", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn nobody_waits_longer_than_the_patience() {
        let (ours, _theirs) = Channel::pair().unwrap();
        ours.set_patience(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(ours.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(ours.send(&[0; MESSAGE_BYTES_MAX + 1], &[]).is_err());
        let sent = (0..100).find_map(|_| ours.send(&[0; MESSAGE_BYTES_MAX], &[]).err());
        assert_eq!(sent.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}

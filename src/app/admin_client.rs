//! Asks the admin pages of a process on this machine.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::plan::AdminAddress;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("nobody answers there")]
    Connect(#[source] io::Error),
    #[error("whoever answers there speaks no HTTP")]
    Http(#[from] hyper::Error),
    #[error("whoever answers there is no gateway, or an older one: it says {0}")]
    Status(StatusCode),
    #[error("whoever answers there is no gateway: it sends what is no JSON")]
    Json(#[source] serde_json::Error),
    #[error("whoever answers there sends too much")]
    Long,
    #[error("whoever listens there does not answer within {PATIENCE:?}")]
    Late,
}

/// A page that is JSON.
///
/// # Errors
/// See `AskError`.
pub(super) async fn json(address: &AdminAddress, path: &str) -> Result<Value, AskError> {
    let page = async {
        match address {
            AdminAddress::Tcp(address) => {
                get(TcpStream::connect(address).await.map_err(AskError::Connect)?, path).await
            }
            AdminAddress::Unix(socket) => {
                get(UnixStream::connect(socket).await.map_err(AskError::Connect)?, path).await
            }
        }
    };
    let Ok(page) = timeout(PATIENCE, page).await else { return Err(AskError::Late) };
    serde_json::from_slice(&page?).map_err(AskError::Json)
}

async fn get<S>(stream: S, path: &str) -> Result<Bytes, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end is told by the answer.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::new(Empty::<Bytes>::new());
    if let Ok(path) = path.parse() {
        *request.uri_mut() = path;
    }
    let host = header::HeaderValue::from_static("localhost");
    request.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(AskError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|_too_long| AskError::Long)
}

const PATIENCE: Duration = Duration::from_secs(5);

const PAGE_BYTES_MAX: usize = 1 << 20;

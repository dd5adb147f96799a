//! Asks the admin pages of a process on this machine: the one HTTP client of the commands.
//!
//! Whoever asks says how long it waits and how much it reads. `admin` answers.

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::plan::AdminAddress;

/// What a question may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) patience: Duration,
    pub(super) bytes_max: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("nobody answers there")]
    Connect(#[source] io::Error),
    #[error("whoever answers there speaks no HTTP")]
    Http(#[from] hyper::Error),
    #[error("whoever answers there sends too much, or breaks off")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("whoever listens there does not answer within {0:?}")]
    Late(Duration),
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("whoever answers there is no gateway, or an older one: it says {0}")]
    Status(StatusCode),
    #[error("whoever answers there is no gateway: it sends what is no JSON")]
    Json(#[source] serde_json::Error),
}

/// A page that is JSON.
///
/// # Errors
/// See `PageError`.
pub(super) async fn json(address: &AdminAddress, path: &'static str) -> Result<Value, PageError> {
    let Answer { status, body } = get(address, path, PAGE).await?;
    if status != StatusCode::OK {
        return Err(PageError::Status(status));
    }
    serde_json::from_slice(&body).map_err(PageError::Json)
}

/// What is said to `GET path`.
///
/// # Errors
/// See `AskError`.
pub(super) async fn get(
    address: &AdminAddress,
    path: &'static str,
    bounds: Bounds,
) -> Result<Answer, AskError> {
    let answer = async {
        match address {
            AdminAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(AskError::Connect)?;
                converse(stream, path, bounds.bytes_max).await
            }
            AdminAddress::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(AskError::Connect)?;
                converse(stream, path, bounds.bytes_max).await
            }
        }
    };
    timeout(bounds.patience, answer)
        .await
        .unwrap_or_else(|_elapsed| Err(AskError::Late(bounds.patience)))
}

async fn converse<S>(stream: S, path: &'static str, bytes_max: usize) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end is told by the answer.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static(path);
    let host = header::HeaderValue::from_static("localhost");
    request.headers_mut().insert(header::HOST, host);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    Ok(Answer { status, body: body.map_err(AskError::Body)?.to_bytes() })
}

const PAGE: Bounds = Bounds { patience: Duration::from_secs(5), bytes_max: 1 << 20 };

//! Owns the little HTTP that a load generator needs: to read a page (a server's metrics), and to
//! serve one (the counts of the test peer). Plain, and by hyper. `scrape.rs` and
//! `upstream/counts.rs` use it.

use std::convert::Infallible;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The text at `http://host:port/path`.
///
/// # Errors
/// Not such an address, not reachable within 5 s, not HTTP, not 200, or more than 64 MiB.
pub fn get(url: &str) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no address of a page"))?;
    if uri.scheme_str() != Some("http") {
        bail!("{url}: an address that starts with http:// is wanted");
    }
    let stream = connect(&uri).with_context(|| format!("cannot reach {url}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(TIMEOUT, ask(stream, &uri)).await };
    let answer = runtime
        .block_on(asked)
        .map_err(|_elapsed| anyhow!("no answer within {} s", TIMEOUT.as_secs()));
    answer.flatten().with_context(|| format!("reading {url}"))
}

fn connect(uri: &Uri) -> Result<TcpStream> {
    let host = uri.host().context("it names no host")?;
    // An IPv6 address stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()).into())
}

async fn ask(stream: TcpStream, uri: &Uri) -> Result<String> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its end is told by the answer.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::new(Empty::<Bytes>::new());
    let host = uri.authority().context("it names no host")?.as_str();
    request.headers_mut().insert(HOST, HeaderValue::from_str(host)?);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("it says {}", response.status());
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow!(error))?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Answers every request with what `page` returns, which is JSON, until it is dropped.
pub async fn serve_json(
    listener: &TcpListener,
    page: impl Fn() -> String + Clone + Send + 'static,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let page = page.clone();
        let service = service_fn(move |_request| {
            let mut response = Response::new(Full::new(Bytes::from(page())));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        // What goes wrong there is the business of whoever asked.
        connections.spawn(async move { drop(connection.await) });
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What `get` makes of a server that answers so; and what it was asked.
    fn got(answer: &'static str, path: &str) -> (Result<String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (get(&url), server.join().unwrap())
    }

    #[test]
    fn a_page_in_chunks_is_read_whole_by_http_1_1() {
        // Envoy's admin page knows no HTTP/1.0.
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             8\r\na_total \r\n3\r\n12\n\r\n0\r\n\r\n";
        let (page, request) = got(answer, "/stats/prometheus?usedonly");
        assert_eq!(page.unwrap(), "a_total 12\n");
        assert!(request.starts_with("GET /stats/prometheus?usedonly HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("\r\nhost: 127.0.0.1:"), "{request}");
    }

    #[test]
    fn a_page_without_a_length_ends_with_its_connection() {
        let (page, request) = got("HTTP/1.0 200 OK\r\n\r\na 1\n", "");
        assert_eq!(page.unwrap(), "a 1\n");
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn what_is_no_page_is_told() {
        for (answer, told) in [
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404 Not Found"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "end of file"),
        ] {
            let error = format!("{:#}", got(answer, "/metrics").0.unwrap_err());
            assert!(error.starts_with("reading http://") && error.contains(told), "{error}");
        }
        for url in ["localhost:9901", "https://localhost/metrics", "/metrics", ""] {
            assert!(format!("{:#}", get(url).unwrap_err()).contains(url), "{url}");
        }
    }
}

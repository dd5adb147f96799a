//! What each path of the admin endpoint answers, and whom it answers at all.
//!
//! No socket and no clock: a request in, a response out.

use std::net::IpAddr;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text;

use super::listener::Reach;
use super::{AdminState, Readiness, certs, process, tickets, trust};

pub(super) type Answer = Response<Full<Bytes>>;

/// `now` in Unix seconds.
pub(super) fn answer<B>(
    request: &Request<B>,
    reach: Reach,
    state: &AdminState,
    now: u64,
) -> Answer {
    if reach == Reach::Network
        && let Err(why) = check_origin(request)
    {
        return plain(StatusCode::FORBIDDEN, why);
    }
    let path = request.uri().path();
    if !PATHS.contains(&path) {
        return plain(StatusCode::NOT_FOUND, &format!("paths: {}", PATHS.join(" ")));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read-only");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        METRICS => metrics(state),
        CERTS => response(StatusCode::OK, JSON, certs::page(&state.current.load(), now)),
        TRUST => response(StatusCode::OK, JSON, trust::page(&state.current.load(), now)),
        TICKETS => response(StatusCode::OK, JSON, tickets::page(&state.stek, now)),
        PROCESS => response(StatusCode::OK, JSON, process::page(state)),
        READYZ => readyz(state.readiness()),
        // Who answers lives: control and workers are one process.
        _ => plain(StatusCode::OK, "alive"),
    }
}

fn metrics(state: &AdminState) -> Answer {
    let mut page = String::new();
    match text::encode(&mut page, &state.metrics) {
        Ok(()) => response(StatusCode::OK, OPEN_METRICS, page),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded"),
    }
}

fn readyz(readiness: Readiness) -> Answer {
    match readiness {
        Readiness::Ready => plain(StatusCode::OK, "ready"),
        Readiness::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Readiness::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, "draining"),
    }
}

/// Refuses what a page in a browser sends. By DNS rebinding a page can give this address a name of
/// its own, but it cannot make the browser say another one; other sites show in the headers that
/// browsers add (Fetch §3.2, Fetch Metadata). // threat 44
fn check_origin<B>(request: &Request<B>) -> Result<(), &'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let is_named = match (hosts.next(), hosts.next(), request.uri().authority()) {
        // HTTP/1.0 has no Host; browsers have not spoken it for decades.
        (None, _, None) => request.version() == hyper::Version::HTTP_10,
        (Some(host), None, None) => host.to_str().is_ok_and(is_local),
        (Some(host), None, Some(uri)) => {
            host.to_str().is_ok_and(is_local) && is_local(uri.as_str())
        }
        (None | Some(_), _, _) => false,
    };
    if !is_named {
        return Err("ask for this endpoint by its IP address or as localhost");
    }
    if is_cross_site(headers) { Err("not for pages of other sites") } else { Ok(()) }
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_elsewhere = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_foreign = origin.is_some_and(|origin| origin.strip_prefix(b"http://") != host);
    is_elsewhere || is_foreign
}

/// Whether `host`, with or without a port, is an IP address or localhost: names that no stranger can
/// point somewhere.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').and_then(|it| it.parse().ok()).map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    address.is_some() || name.eq_ignore_ascii_case("localhost")
}

fn plain(status: StatusCode, line: &str) -> Answer {
    response(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const METRICS: &str = "/metrics";
const READYZ: &str = "/readyz";
const CERTS: &str = "/certs";
const TRUST: &str = "/trust";
const TICKETS: &str = "/tickets";
const PROCESS: &str = "/process";
const PATHS: [&str; 7] = ["/livez", READYZ, METRICS, CERTS, TRUST, TICKETS, PROCESS];

const JSON: &str = "application/json";

/// OpenMetrics 1.0, media type.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

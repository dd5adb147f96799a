//! What each path of the admin endpoint answers.
//!
//! No socket and no clock: a request in, a response out. `access` says whom; each page has a file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::access::{self, Reach};
use super::orders::{AdminOrder, Ordered, Outcome, Told};
use super::{AdminState, Readiness};
use super::{certs, clusters, connections, effective, listeners, process, stats, tickets, trust};
use crate::config::plan::LogLevel;
use crate::sys::clock;

pub(super) type Answer = Response<Full<Bytes>>;

/// `now` in Unix seconds.
pub(super) async fn answer<B: Body>(
    request: &Request<B>,
    reach: Reach,
    state: &AdminState,
    now: u64,
) -> Answer {
    if let Err(why) = access::may_ask(request, reach) {
        return plain(StatusCode::FORBIDDEN, why);
    }
    let path = request.uri().path();
    let is_page = PAGES.contains(&path) || PROBES.contains(&path) || asset(path).is_some();
    if !is_page && !ACTIONS.contains(&path) {
        let there = [&PROBES[..], &PAGES, &ACTIONS].concat().join(" ");
        return plain(StatusCode::NOT_FOUND, &format!("paths: / {there}"));
    }
    if reach == Reach::Remote && !PROBES.contains(&path) {
        let probes = PROBES.join(", ");
        return plain(StatusCode::FORBIDDEN, &format!("from other machines only {probes}"));
    }
    if is_page {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return wrong_method("GET, HEAD", "this page is read-only");
        }
        return page(path, request.uri().query().unwrap_or_default(), state, now).await;
    }
    if *request.method() != Method::POST {
        return wrong_method("POST", "this changes something: POST, with X-Portcullis-Admin: 1");
    }
    if let Err(why) = access::may_act(request, reach) {
        return plain(StatusCode::FORBIDDEN, why);
    }
    if !request.body().is_end_stream() {
        return plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "send no body: what there is to say is in the path",
        );
    }
    match order(path, &fields(request.uri().query().unwrap_or_default())) {
        Ok(order) => act(order, state).await,
        Err(why) => plain(StatusCode::BAD_REQUEST, why),
    }
}

async fn page(path: &str, query: &str, state: &AdminState, now: u64) -> Answer {
    match path {
        // Who answers lives: control and workers are one process.
        LIVEZ => return plain(StatusCode::OK, "alive"),
        READYZ => return readyz(state.readiness()),
        _ => {}
    }
    let Some(place) = place(state).await else {
        let why = "too many pages are being read: ask again";
        return plain(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    if path == "/connections" {
        let asked = connections::Asked::read(&fields(query), state.shown.peers.len());
        return match asked {
            Ok(asked) => held(JSON, connections::page(state, asked).await, place),
            Err(why) => plain(StatusCode::BAD_REQUEST, &why),
        };
    }
    let turn = state.making.lock().await;
    let page = made(path, state, now, place);
    // Whoever has come in the meantime, a probe say, goes before the next page.
    yield_now().await;
    drop(turn);
    page
}

/// A page that is made at once, whatever it takes.
fn made(path: &str, state: &AdminState, now: u64, place: OwnedSemaphorePermit) -> Answer {
    let snapshot = state.shown.current.load_full();
    let text = match path {
        METRICS => return metrics(state, place),
        "/stats" => stats::page(state, &snapshot, now),
        "/listeners" => listeners::page(&snapshot, &state.shown.bound.load()),
        "/clusters" => clusters::page(&snapshot, now),
        "/certs" => certs::page(&snapshot, now),
        "/trust" => trust::page(&snapshot, now),
        "/tickets" => tickets::page(&state.shown.stek, now),
        "/config" => effective::page(&snapshot),
        "/process" => process::page(state),
        _ => return asset(path).unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "no such page")),
    };
    held(JSON, text, place)
}

/// A place for a page. Whoever reads keeps theirs; who has one and does not read makes room.
async fn place(state: &AdminState) -> Option<OwnedSemaphorePermit> {
    let place = || timeout(PLACE_PATIENCE, Arc::clone(&state.places).acquire_owned());
    if let Ok(place) = place().await {
        return place.ok();
    }
    state.crowd.send_stuck_away(clock::now(), PLACE_PATIENCE);
    place().await.ok()?.ok()
}

/// A page with its place, which is free again once the last byte is out.
struct Held {
    text: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn order(path: &str, fields: &HashMap<String, String>) -> Result<AdminOrder, &'static str> {
    let level = |text: &str| {
        let level = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
        level.ok_or("level is error, warn, info, debug or trace")
    };
    match (path, fields.get("level"), fields.contains_key("reopen")) {
        ("/log", Some(text), false) => level(text).map(AdminOrder::LogLevel),
        ("/log", None, true) => Ok(AdminOrder::LogReopen),
        ("/log", _, _) => Err("say what: /log?level=debug or /log?reopen"),
        ("/drain", _, _) => Ok(AdminOrder::Drain),
        _ => Ok(AdminOrder::Reload),
    }
}

/// Hands the order in and waits for what comes of it.
async fn act(order: AdminOrder, state: &AdminState) -> Answer {
    let (answer, answered) = oneshot::channel();
    if state.orders.try_send(Ordered { order, answer }).is_err() {
        let why = "control has its hands full, or the process ends: look at the log";
        return told(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": why }));
    }
    match timeout(ORDER_PATIENCE, answered).await {
        Ok(Ok(Told { outcome, body })) => {
            let status = match outcome {
                Outcome::Done => StatusCode::OK,
                Outcome::Wrong => StatusCode::UNPROCESSABLE_ENTITY,
                Outcome::Refused => StatusCode::CONFLICT,
            };
            told(status, &body)
        }
        Ok(Err(_)) => {
            let why = "the process is ending";
            told(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": why }))
        }
        Err(_) => {
            let why = "still at it: the log will say what came of it";
            told(StatusCode::ACCEPTED, &json!({ "pending": why }))
        }
    }
}

fn metrics(state: &AdminState, place: OwnedSemaphorePermit) -> Answer {
    let mut text = String::new();
    match text::encode(&mut text, &state.metrics) {
        Ok(()) => held(OPEN_METRICS, text, place),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded"),
    }
}

fn readyz(readiness: Readiness) -> Answer {
    match readiness {
        Readiness::Ready => plain(StatusCode::OK, readiness.name()),
        Readiness::Starting | Readiness::Draining => {
            plain(StatusCode::SERVICE_UNAVAILABLE, readiness.name())
        }
    }
}

/// The live page and what it needs; nothing of it comes from elsewhere.
fn asset(path: &str) -> Option<Answer> {
    let (kind, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("assets/index.html")),
        "/app.js" => ("text/javascript; charset=utf-8", include_str!("assets/app.js")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("assets/style.css")),
        _ => return None,
    };
    Some(response(StatusCode::OK, kind, Bytes::from_static(text.as_bytes())))
}

/// What stands behind the `?`; the last of two with one name counts.
fn fields(query: &str) -> HashMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn wrong_method(allowed: &'static str, why: &str) -> Answer {
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, why);
    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    refused
}

fn told(status: StatusCode, body: &Value) -> Answer {
    response(status, JSON, format!("{body:#}\n"))
}

fn plain(status: StatusCode, line: &str) -> Answer {
    response(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn held(content_type: &'static str, text: String, place: OwnedSemaphorePermit) -> Answer {
    response(StatusCode::OK, content_type, Bytes::from_owner(Held { text, _place: place }))
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HARDENING {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const LIVEZ: &str = "/livez";
const READYZ: &str = "/readyz";
const METRICS: &str = "/metrics";

/// What other machines may ask for, where `allow_remote` lets them come at all.
const PROBES: [&str; 3] = [LIVEZ, READYZ, METRICS];
const PAGES: [&str; 9] = [
    "/stats",
    "/listeners",
    "/clusters",
    "/connections",
    "/certs",
    "/trust",
    "/tickets",
    "/config",
    "/process",
];
const ACTIONS: [&str; 3] = ["/reload", "/drain", "/log"];

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const JSON: &str = "application/json";

/// OpenMetrics 1.0, media type.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// On every answer: what it is stays what it is, is kept nowhere, and is in nobody's frame. The page
/// takes its script, style and data from here and from nowhere else.
const HARDENING: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// How long a page waits for its place among `super::PAGES_MAX`, before those who do not read are sent away
/// and once more then.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);

/// Less than a connection may last; a reload of long lists takes seconds.
const ORDER_PATIENCE: Duration = Duration::from_secs(50);

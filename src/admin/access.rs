//! Who may ask for what: no page of another site, nobody from elsewhere, and no change by accident.
//!
//! Looks at a request's head only. `answer` asks before anything else is done. // threat 44

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Version};

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Over TCP from this machine: a browser may have sent it on behalf of any page.
    Loopback,
    /// Over TCP from another machine, where `allow_remote` lets it.
    Remote,
    /// Through the file of a unix socket, which has an owner and a mode.
    File,
}

impl Reach {
    pub(super) fn of(peer: IpAddr) -> Self {
        if peer.to_canonical().is_loopback() { Self::Loopback } else { Self::Remote }
    }
}

/// Refuses what a page in a browser sends. By DNS rebinding a page can give this address a name of
/// its own, but it cannot make the browser say another one; other sites show in the headers that
/// browsers add (Fetch §3.2, Fetch Metadata). A unix socket that is forwarded to a port of somebody's
/// machine is as near to a browser as a port is.
///
/// # Errors
/// Why, for whoever asked.
pub(super) fn may_ask<B>(request: &Request<B>, reach: Reach) -> Result<(), &'static str> {
    let headers = request.headers();
    let is_by_browser = headers.contains_key(SITE) || headers.contains_key(header::ORIGIN);
    if (reach != Reach::File || is_by_browser) && !is_local_name(request) {
        return Err("ask for this endpoint by its IP address or as localhost");
    }
    if is_cross_site(headers) { Err("not for pages of other sites") } else { Ok(()) }
}

/// Whether a request that was let ask may also change something.
///
/// # Errors
/// As `may_ask`.
pub(super) fn may_act<B>(request: &Request<B>, reach: Reach) -> Result<(), &'static str> {
    if reach == Reach::Remote {
        return Err("not from other machines");
    }
    let mut said = request.headers().get_all(ACTION).iter();
    match (said.next().map(HeaderValue::as_bytes), said.next()) {
        // A page of another site cannot add it without being asked for leave first (Fetch §3.2.2),
        // which nobody here gives.
        (Some(b"1"), None) => Ok(()),
        (Some(_) | None, _) => Err("say that you mean it: add the header X-Portcullis-Admin: 1"),
    }
}

/// The header without which nothing is changed.
const ACTION: &str = "x-portcullis-admin";

const SITE: &str = "sec-fetch-site";

fn is_local_name<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        // HTTP/1.0 has no Host; browsers have not spoken it for decades.
        (None, _, None) => request.version() == Version::HTTP_10,
        (Some(host), None, None) => host.to_str().is_ok_and(is_local),
        (Some(host), None, Some(uri)) => {
            host.to_str().is_ok_and(is_local) && is_local(uri.as_str())
        }
        (None | Some(_), _, _) => false,
    }
}

/// Whether any of them says so: no browser sends two of one kind, but what stands between may add one.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SITE).iter().map(HeaderValue::as_bytes);
    let is_elsewhere = sites.any(|site| !matches!(site, b"same-origin" | b"none"));
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let mut origins = headers.get_all(header::ORIGIN).iter().map(HeaderValue::as_bytes);
    let is_foreign = origins.any(|origin| origin.strip_prefix(b"http://") != host);
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

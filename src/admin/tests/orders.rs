//! Orders, and who may not give them. // threat 44

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};

use super::super::access::Reach;
use super::super::answer::answer;
use super::*;

/// What control would have been told, and what it says to it, while `ask` runs.
fn obeyed(admin: &mut Running, told: &Told, head: &str) -> (AdminOrder, String) {
    let stream = admin.connect();
    let head = head.to_owned();
    let asked = std::thread::spawn(move || ask(stream, &head));
    let Ordered { order, answer } = admin.ordered.blocking_recv().expect("an order");
    answer.send(told.clone()).expect("somebody waits");
    (order, asked.join().expect("an answer"))
}

fn post(path: &str, header: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:9901\r\n{header}Content-Length: 0")
}

#[test]
fn orders_reach_control_and_what_came_of_them_is_the_answer() {
    let mut admin = Running::tcp();
    let done = Told::done(serde_json::json!({ "generation": 2 }));
    let wrong = Told::wrong(serde_json::json!({ "problems": ["a"] }));
    for (path, told, order, code, words) in [
        ("/reload", &done, AdminOrder::Reload, 200, "\"generation\": 2"),
        ("/reload", &wrong, AdminOrder::Reload, 422, "\"problems\""),
        ("/drain", &done, AdminOrder::Drain, 200, "generation"),
        ("/log?level=debug", &done, AdminOrder::LogLevel(LogLevel::Debug), 200, "generation"),
        ("/log?reopen", &Told::refused("not now"), AdminOrder::LogReopen, 409, "not now"),
    ] {
        let (given, answer) = obeyed(&mut admin, told, &post(path, "X-Portcullis-Admin: 1\r\n"));
        assert_eq!((given, status(&answer)), (order, code), "{path}: {answer}");
        assert!(body(&answer).contains(words), "{answer}");
        assert!(answer.contains("content-type: application/json"), "{answer}");
    }
}

#[test]
fn an_order_needs_its_header_and_a_post_and_no_other_site_and_no_body() {
    // threat 44
    let mut admin = Running::tcp();
    let said = "X-Portcullis-Admin: 1\r\n";
    for path in ["/reload", "/drain", "/log?level=debug"] {
        for (head, code, words) in [
            (post(path, ""), 403, "X-Portcullis-Admin: 1"),
            (post(path, "X-Portcullis-Admin: 0\r\n"), 403, "X-Portcullis-Admin: 1"),
            (post(path, &said.repeat(2)), 403, "X-Portcullis-Admin: 1"),
            (post(path, &format!("{said}Origin: http://evil.example\r\n")), 403, "other sites"),
            (post(path, &format!("{said}Origin: null\r\n")), 403, "other sites"),
            (post(path, &format!("{said}Sec-Fetch-Site: same-site\r\n")), 403, "other sites"),
            (post(path, said).replace("127.0.0.1:9901", "evil.example"), 403, "IP address"),
            (post(path, said).replace("POST", "GET"), 405, "POST"),
            // What a browser asks before it sends a header of its own to another site.
            (post(path, "").replace("POST", "OPTIONS"), 405, "POST"),
        ] {
            let answer = admin.ask(&head);
            assert_eq!(status(&answer), code, "{head}\n{answer}");
            assert!(body(&answer).contains(words), "{head}\n{answer}");
            assert!(!answer.contains("access-control"), "{answer}");
        }
    }
    let head = post("/reload", said).replace("Content-Length: 0", "Content-Length: 5");
    let mut stream = admin.connect();
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\nhello").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(status(&answer), 413, "{answer}");
    for path in ["/log", "/log?level=loud", "/log?level=info&reopen"] {
        assert_eq!(status(&admin.ask(&post(path, said))), 400, "{path}");
    }
    assert!(admin.ordered.try_recv().is_err(), "control was told");
}

#[test]
fn orders_beyond_those_that_may_wait_are_refused_and_not_kept() {
    // threat 44
    let mut admin = Running::tcp();
    let head = post("/drain", "X-Portcullis-Admin: 1\r\n");
    let mut waiting = Vec::new();
    let mut refused = None;
    // Control takes none.
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = admin.connect();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("sent");
        stream.set_nonblocking(true).expect("a mode");
        waiting.push(stream);
    }
    portcullis_kit::eventually(portcullis_kit::PATIENCE, "a refusal", || {
        refused = waiting.iter_mut().find_map(|stream| {
            let mut start = [0; 12];
            let read = stream.read(&mut start).ok()?;
            Some(String::from_utf8_lossy(&start[..read]).into_owned())
        });
        refused.is_some().then_some(())
    });
    assert_eq!(refused.as_deref(), Some("HTTP/1.1 503"));
    let mut taken = 0;
    while admin.ordered.try_recv().is_ok() {
        taken += 1;
    }
    assert!(taken > 0 && taken < CONNECTIONS_MAX, "{taken}");
}

/// What is answered to somebody who comes from there.
fn from(reach: Reach, method: &Method, path: &str, headers: &[(&str, &str)]) -> StatusCode {
    let state = AdminState::new(Registry::default(), shown(), orders().0);
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = answer(&request, reach, &state, 7_200);
    runtime.expect("a runtime").block_on(answer).status()
}

#[test]
fn other_machines_get_probes_and_metrics_and_nothing_else() {
    // threat 44
    assert_eq!(Reach::of("127.9.9.9".parse().expect("an address")), Reach::Loopback);
    assert_eq!(Reach::of("::ffff:127.0.0.1".parse().expect("an address")), Reach::Loopback);
    assert_eq!(Reach::of("::1".parse().expect("an address")), Reach::Loopback);
    assert_eq!(Reach::of("192.0.2.1".parse().expect("an address")), Reach::Remote);
    let host = ("host", "192.0.2.9:9901");
    for path in ["/livez", "/metrics"] {
        assert_eq!(from(Reach::Remote, &Method::GET, path, &[host]), StatusCode::OK, "{path}");
    }
    let said = ("x-portcullis-admin", "1");
    for path in ["/", "/app.js", "/stats", "/config", "/connections", "/certs", "/tickets"] {
        assert_eq!(
            from(Reach::Remote, &Method::GET, path, &[host]),
            StatusCode::FORBIDDEN,
            "{path}"
        );
        assert_eq!(from(Reach::Loopback, &Method::GET, path, &[host]), StatusCode::OK, "{path}");
    }
    for path in ["/reload", "/drain", "/log?reopen"] {
        let answered = from(Reach::Remote, &Method::POST, path, &[host, said]);
        assert_eq!(answered, StatusCode::FORBIDDEN, "{path}");
    }
}

#[test]
fn a_unix_socket_that_is_forwarded_to_a_browser_is_guarded_as_a_port_is() {
    // threat 44
    let (evil, site) = (("host", "evil.example"), ("sec-fetch-site", "same-origin"));
    let origin = ("origin", "http://evil.example");
    let get = |headers: &[(&str, &str)]| from(Reach::File, &Method::GET, "/stats", headers);
    assert_eq!(get(&[("host", "anything")]), StatusCode::OK, "no browser");
    assert_eq!(get(&[("host", "localhost:9901"), site]), StatusCode::OK, "`ssh -L`");
    assert_eq!(get(&[evil, site]), StatusCode::FORBIDDEN, "DNS rebinding");
    assert_eq!(get(&[evil, origin]), StatusCode::FORBIDDEN, "DNS rebinding");
    assert_eq!(get(&[("host", "localhost"), origin]), StatusCode::FORBIDDEN, "another site");
}

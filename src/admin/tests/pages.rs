//! The pages that show what goes on, and the one for people.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::super::answer::answer;
use super::*;
use crate::core::refusal::Reason;
use crate::worker::{Listed, Listing, Mail, Order};

fn get(admin: &Running, path: &str) -> Value {
    let answer = admin.get(path);
    assert_eq!(status(&answer), 200, "{answer}");
    serde_json::from_str(body(&answer)).expect("JSON")
}

#[test]
fn stats_sum_the_workers_and_show_each() {
    let admin = Running::tcp();
    let snapshot = admin.state.shown.current.load();
    for (worker, peer) in admin.state.shown.peers.iter().enumerate() {
        peer.counters.accepted.add(10 + worker as u64);
        peer.counters.open.up();
    }
    let counters = &snapshot.counters;
    counters.chains[0].of(0).handshakes.resumed.add(3);
    counters.chains[0].of(0).bytes_sent.add(1_000);
    counters.listeners[0].of(0).refused(Reason::NotTls);
    counters.listeners[0].of(0).full_handshake.observe(Duration::from_millis(1));
    let stats = get(&admin, "/stats");
    assert_eq!(stats["process"]["connections_accepted"], 21);
    assert_eq!(stats["process"]["connections_open"], 2);
    assert_eq!(stats["process"]["handshakes_resumed"], 3);
    assert_eq!(stats["workers"][1]["accepted"], 11);
    assert_eq!(stats["refusals"], serde_json::json!({ "not_tls": 1 }));
    assert_eq!(stats["handshake_seconds"]["full"][1], 1);
    let bounds = stats["handshake_seconds"]["bounds"].as_array().expect("a list");
    assert_eq!(stats["handshake_seconds"]["full"].as_array().map(Vec::len), Some(bounds.len() + 1));
    assert_eq!(
        (&stats["chains"][0]["name"], &stats["chains"][0]["bytes_sent"]),
        (&"default".into(), &1_000.into())
    );
    assert_eq!(stats["clusters"][0]["endpoints"][0]["address"], "127.0.0.1:7000");
    assert_eq!(stats["readiness"], "starting");
}

#[test]
fn listeners_and_clusters_are_shown_with_what_they_count() {
    let admin = Running::tcp();
    let snapshot = admin.state.shown.current.load();
    snapshot.counters.clusters[0].of(0).ready.up();
    snapshot.counters.listeners[0].of(0).refused(Reason::NoChain);
    let bound = vec![(snapshot.listener_keys()[0], "127.0.0.1:40443".parse().expect("an address"))];
    admin.state.shown.bound.store(Arc::new(bound));
    let listeners = get(&admin, "/listeners");
    let edge = &listeners["listeners"][0];
    assert_eq!((&edge["name"], &edge["address"]), (&"edge".into(), &"127.0.0.1:40443".into()));
    assert_eq!(edge["refusals"]["no_chain"], 1);
    assert_eq!(
        edge["chains"][0]["clusters"][0],
        serde_json::json!({ "cluster": "echo", "weight": 1 })
    );
    let clusters = get(&admin, "/clusters");
    assert_eq!(
        (&clusters["clusters"][0]["name"], &clusters["clusters"][0]["ready"]),
        (&"echo".into(), &1.into())
    );
    assert_eq!(clusters["clusters"][0]["endpoints"][0]["health"], "not probed");
}

#[test]
fn the_whole_reference_configuration_is_shown_with_its_values() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.toml");
    let shown = effective_config(&config::load(&path).expect("the reference"));
    assert_eq!(shown["runtime"]["drain"]["deadline"], "30s");
    assert_eq!(shown["admin"]["listen"], "127.0.0.1:9901");
    let orders = &shown["listener"]["edge"]["chain"]["orders"];
    assert_eq!(orders["match"]["server_names"][1], "*.orders.example.com");
    assert_eq!(orders["filters"][1]["rate"], "500/s");
    assert_eq!(orders["filters"][2]["deny"].as_array().map(Vec::len), Some(1));
    let tls = &shown["tls"]["downstream"]["orders"];
    assert_eq!(tls["cipher_suites"][0], "TLS_AES_128_GCM_SHA256");
    assert_eq!(tls["groups"][0], "x25519mlkem768");
    let key = tls["certificates"][0]["key"].as_str().expect("a path");
    assert!(key.starts_with('/') && key.ends_with("pki/orders.key"), "{key}");
    assert_eq!(shown["cluster"]["orders-db"]["pool"]["idle"], "1m");
    assert_eq!(shown["cluster"]["orders-db"]["health"]["type"], "tls");
    assert_eq!(shown["trust"]["partners"]["client_keys"][0], "ecdsa-p256");
}

#[test]
fn the_page_for_people_is_whole_and_takes_nothing_from_elsewhere() {
    let admin = Running::tcp();
    let page = admin.get("/");
    assert_eq!(status(&page), 200);
    assert!(page.contains("content-type: text/html"), "{page}");
    for line in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(page.contains(line), "{line} in {page}");
        assert!(admin.get("/metrics").contains(line), "{line}");
    }
    for path in ["/app.js", "/style.css"] {
        assert!(body(&page).contains(&format!("\"{path}\"")), "{path}");
        assert_eq!(status(&admin.get(path)), 200);
    }
    for asset in ["/", "/app.js", "/style.css"] {
        let answer = admin.get(asset);
        let text = body(&answer).replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"), "{asset} names another place");
        // Neither would be let through by the policy.
        assert!(!text.contains(" style=") && !text.contains("innerHTML"), "{asset}");
    }
}

/// In the place of a worker: answers one question with this many of its places, from what it is asked.
fn answer_one(admin: &Running, worker: usize, next: Option<usize>) -> (usize, usize) {
    let mailbox = Arc::clone(&admin.state.shown.peers[worker].mailbox);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let Mail::Order(Order::List(listing)) = runtime.block_on(mailbox.receive()) else {
        panic!("another mail");
    };
    let Listing { from, rows_max, answer, .. } = *listing;
    answer.send(Listed { rows: Vec::new(), next }).expect("somebody waits");
    (from, rows_max)
}

#[test]
fn connections_are_asked_of_each_worker_in_turn_and_the_page_goes_on_where_it_ended() {
    let admin = Running::tcp();
    let stream = admin.connect();
    let head = "GET /connections?limit=7&after=0.5 HTTP/1.1\r\nHost: localhost";
    let asked = std::thread::spawn(move || ask(stream, head));
    assert_eq!(answer_one(&admin, 0, Some(4_101)), (5, 7));
    assert_eq!(answer_one(&admin, 0, None), (4_101, 7));
    assert_eq!(answer_one(&admin, 1, None), (0, 7));
    let answer = asked.join().expect("an answer");
    let page: Value = serde_json::from_str(body(&answer)).expect("JSON");
    assert_eq!(page["next"], Value::Null);
    assert_eq!(page["workers_silent"], serde_json::json!([]));
}

#[test]
fn a_worker_that_does_not_answer_is_named_and_nobody_waits_for_it() {
    // Nobody reads the mail of these.
    let page = get(&Running::tcp(), "/connections");
    assert_eq!(page["workers_silent"], serde_json::json!([0, 1]));
    assert_eq!(page["connections"], serde_json::json!([]));
}

#[test]
fn pages_in_memory_have_a_limit_and_probes_are_none_of_them() {
    // threat 44
    let admin = Running::tcp();
    for _ in 0..2 * PAGES_MAX {
        // Each gives its place back.
        get(&admin, "/stats");
    }
    let all = u32::try_from(PAGES_MAX).expect("a few");
    let held = admin.state.places.try_acquire_many(all).expect("all are free");
    for path in ["/stats", "/metrics"] {
        assert_eq!(status(&admin.get(path)), 503, "{path}");
    }
    assert_eq!(status(&admin.get("/livez")), 200);
    assert_eq!(status(&admin.get("/readyz")), 503, "not ready yet, and says so at once");
    drop(held);
    get(&admin, "/stats");
}

/// A metric that tells when it is asked for.
#[derive(Debug)]
struct Telling(std::sync::mpsc::Sender<&'static str>);

impl Collector for Telling {
    fn encode(&self, _encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.send("page").map_err(|_gone| std::fmt::Error)
    }
}

#[test]
fn between_two_pages_everybody_else_has_a_turn() {
    // threat 44
    let (events, told) = std::sync::mpsc::channel();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Telling(events.clone())));
    let state = Arc::new(AdminState::new(registry, shown(), orders().0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut pages = JoinSet::new();
        for _ in 0..PAGES_MAX {
            let state = Arc::clone(&state);
            pages.spawn(async move {
                let request = Request::get("/metrics").body(Empty::<Bytes>::new());
                answer(&request.expect("a request"), Reach::File, &state, 0).await.status()
            });
        }
        let others = tokio::spawn(async move {
            while events.send("others").is_ok() {
                tokio::task::yield_now().await;
            }
        });
        while let Some(status) = pages.join_next().await {
            assert_eq!(status.expect("a page"), StatusCode::OK);
        }
        others.abort();
    });
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.iter().filter(|it| **it == "page").count(), PAGES_MAX);
    assert!(!told.windows(2).any(|two| two == ["page", "page"]), "{told:?}");
}

#[test]
fn a_page_of_connections_has_a_limit() {
    // threat 44
    let admin = Running::tcp();
    for query in ["limit=0", "limit=1001", "limit=x", "after=2.0", "after=1", "colour=red"] {
        assert_eq!(status(&admin.get(&format!("/connections?{query}"))), 400, "{query}");
    }
}

//! Every way in which an attempt can end is counted as what it is, against a server that lies, and
//! the exit code says what a script needs to know. Runs the real binary.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use portcullis_kit::ClosedPort;
use portcullis_kit::lying_server::{Lie, start};
use serde_json::Value;

struct Ran {
    exit: Option<i32>,
    result: Value,
    output: Output,
}

impl Ran {
    fn count(&self, name: &str) -> u64 {
        self.result["counts"][name].as_u64().unwrap()
    }

    /// The only class of error that there was, and how often.
    fn only_error(&self) -> (String, u64) {
        let errors = self.result["errors"].as_object().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}\n{}", String::from_utf8_lossy(&self.output.stdout));
        let (class, count) = errors.iter().next().unwrap();
        (class.clone(), count.as_u64().unwrap())
    }
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A client certificate to present.
    fn client_cert(&self) -> PathBuf {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.file("client.crt"), certificate.pem()).unwrap();
        std::fs::write(self.file("client.key"), key.serialize_pem()).unwrap();
        self.file("client.crt")
    }

    fn run(&self, target: &str, more: &[&str]) -> Ran {
        let out = self.file("out.json");
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis-load"))
            .args(["handshakes", "--target", target, "--quiet", "--out"])
            .arg(&out)
            .args(["--warmup", "0s", "--duration", "600ms", "--timeout", "10s"])
            // The machine may be busy; what is tested here is counting, not punctuality.
            .args(["--lag-max", "5s"])
            .args(more)
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&out).unwrap_or_else(|_| "null".to_owned());
        Ran { exit: output.status.code(), result: serde_json::from_str(&text).unwrap(), output }
    }
}

fn run_against(lie: Lie, more: &[&str]) -> Ran {
    let ran = Scratch::new().run(&start(lie).to_string(), more);
    assert_eq!(ran.result["counts"]["imbalance"], 0, "counts must balance");
    assert!(ran.count("attempted") > 0);
    ran
}

#[test]
fn each_lie_is_counted_as_what_it_is() {
    for (lie, class) in [
        (Lie::AcceptsOnly, "timeout"),
        (Lie::WrongBytes, "bad-data"),
        (Lie::Stalls, "timeout"),
        (Lie::Resets, "reset"),
        (Lie::Closes, "closed"),
        (Lie::Truncates, "unexpected-eof"),
        (Lie::NoTls, "tls"),
    ] {
        for pace in [["--conns", "2"], ["--rate", "40/s"]] {
            // Only silence needs patience to end; the others must not fail for want of it.
            let patience = if class == "timeout" { "300ms" } else { "10s" };
            let ran = run_against(lie, &[&pace[..], &["--timeout", patience]].concat());
            let (got, count) = ran.only_error();
            assert_eq!(got, class, "{lie:?} with {pace:?}");
            assert_eq!(count, ran.count("attempted"), "{lie:?}");
            assert_eq!(ran.count("confirmed"), 0, "{lie:?}");
            assert_eq!(ran.exit, Some(1), "{lie:?}: nothing was measured");
            let said = String::from_utf8_lossy(&ran.output.stderr).into_owned();
            assert!(said.contains("let nobody in") && said.contains(class), "{lie:?}: {said}");
            let advice = match class {
                "tls" => "is TLS spoken on this port?",
                "reset" => "",
                _ => "--confirm ticket",
            };
            assert!(said.contains(advice), "{lie:?}: {said}");
            let warnings = ran.result["warnings"].to_string();
            assert!(warnings.contains("not one handshake was confirmed"), "{lie:?}: {warnings}");
            // What the name of the class leaves open is told: not every `tls` is the same.
            let told = ran.result["reasons"]["tls"].as_str();
            assert_eq!(told.is_some_and(|why| why.contains("corrupt message")), class == "tls");
        }
    }
}

#[test]
fn a_search_at_a_server_that_lets_nobody_in_ends_at_once() {
    let target = start(Lie::Closes).to_string();
    // The second is a generator that is always late, as on a busy machine.
    for lag_max in ["5s", "1us"] {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis-load"))
            .args(["find", "--target", &target, "--rate", "40", "--warmup", "0s"])
            .args(["--duration", "300ms", "--lag-max", lag_max])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{lag_max}: {said}");
        assert!(said.contains("let nobody in") && said.contains("closed"), "{lag_max}: {said}");
    }
}

#[test]
fn an_honest_server_is_believed() {
    let ran = run_against(Lie::Honest, &["--conns", "2", "--fail-if", "errors>0%"]);
    assert_eq!(ran.count("confirmed"), ran.count("attempted"));
    assert_eq!(ran.count("unclean_closes"), 0);
    assert_eq!(ran.exit, Some(0));
}

#[test]
fn a_late_refusal_is_not_a_handshake() {
    // threat 10, as the generator sees it: the client's side of TLS 1.3 is long done.
    let scratch = Scratch::new();
    let cert = scratch.client_cert();
    let target = start(Lie::RefusesLate).to_string();
    let cert = ["--conns", "2", "--client-cert", cert.to_str().unwrap()];
    let ran = scratch.run(&target, &cert);
    assert_eq!(ran.only_error().0, "alert-44");
    assert_eq!(ran.count("confirmed"), 0);
    assert_eq!(ran.count("imbalance"), 0);
    // What a generator that believes its own handshake would have said.
    let naive = scratch.run(&target, &[&cert[..], &["--confirm", "none"]].concat());
    assert!(naive.count("confirmed") > 0);
    let warnings = naive.result["warnings"].to_string();
    assert!(warnings.contains("not confirmed"), "{warnings}");
}

#[test]
fn clients_that_must_be_refused_are_no_errors_and_those_let_in_are() {
    let scratch = Scratch::new();
    let cert = scratch.client_cert();
    let target = start(Lie::RefusesLate).to_string();
    let cert = ["--conns", "2", "--sni", "!localhost", "--client-cert", cert.to_str().unwrap()];
    let ran = scratch.run(&target, &cert);
    assert_eq!(ran.count("errors"), 0);
    assert_eq!(ran.count("refused"), ran.count("attempted"));
    assert_eq!(ran.exit, Some(0), "what had to be refused was");
    assert!(!ran.result["warnings"].to_string().contains("not one handshake"));
    let open = run_against(Lie::Honest, &["--conns", "2", "--sni", "!localhost"]);
    assert_eq!(open.count("wrongly_accepted"), open.count("attempted"));
    // By name too: whose gate is open is what one wants to know.
    assert_eq!(open.result["names"][0]["wrongly_accepted"], open.count("attempted"));
    let strict = ["--conns", "2", "--sni", "!localhost", "--fail-if", "wrongly_accepted>0"];
    assert_eq!(run_against(Lie::Honest, &strict).exit, Some(2));
}

#[test]
fn resumption_asked_is_not_resumption_had() {
    let ran = run_against(Lie::NoTickets, &["--conns", "2", "--resume", "0.8"]);
    assert_eq!(ran.result["resumed"]["asked"], 0.8);
    assert_eq!(ran.result["resumed"]["got"], 0.0);
    assert!(ran.result["warnings"].to_string().contains("resumption"));
    let ran = run_against(
        Lie::Honest,
        &["--conns", "2", "--resume", "0.8", "--fail-if", "resumed<60%", "--warmup", "200ms"],
    );
    let got = ran.result["resumed"]["got"].as_f64().unwrap();
    assert!(got > 0.6 && got < 0.95, "{got}");
    assert_eq!(ran.exit, Some(0));
}

#[test]
fn nobody_there_is_exit_1() {
    let nobody = ClosedPort::new();
    let ran = Scratch::new().run(&nobody.address.to_string(), &["--rate", "20/s"]);
    assert_eq!(ran.exit, Some(1));
    assert_eq!(ran.only_error().0, "refused");
    let said = String::from_utf8_lossy(&ran.output.stderr);
    assert!(said.contains("nobody listens") && said.contains("Connection refused"), "{said}");
    let usage = Command::new(env!("CARGO_BIN_EXE_portcullis-load"))
        .args(["handshakes", "--rate", "fast"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(1));
}

#[test]
fn what_can_be_known_beforehand_is_refused_before_anything_runs() {
    let target = start(Lie::Honest).to_string();
    for (flags, word) in [
        // The one is as high as the kernel knows numbers for, the other higher.
        (["--pin", "1023"], "CPU 1023"),
        (["--pin", "5000"], "5000"),
        (["--timeout", "0s"], "--timeout"),
        (["--fail-if", "p99>1x"], "unknown unit \"x\""),
        (["--html", "/nowhere/to/be/found.html"], "/nowhere/to/be"),
    ] {
        let ran = Scratch::new().run(&target, &flags);
        let said = String::from_utf8_lossy(&ran.output.stderr);
        assert_eq!(ran.exit, Some(1), "{flags:?}: {said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{flags:?}: {said}");
        assert_eq!(ran.result, Value::Null, "{flags:?}: nothing was written");
    }
}

#[test]
fn a_run_is_not_lost_with_the_metrics_of_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let once = std::thread::spawn(move || answer(&listener, "portcullis_handshakes_total 1\n"));
    let ran = run_against(Lie::Honest, &["--conns", "2", "--scrape", &url]);
    once.join().unwrap();
    assert_eq!(ran.exit, Some(0));
    assert!(ran.count("confirmed") > 0 && ran.result["scrape"].is_null());
    let warnings = ran.result["warnings"].to_string();
    assert!(warnings.contains("the second scrape failed"), "{warnings}");
}

#[test]
fn a_counter_that_was_named_and_is_not_there_is_told() {
    let (url, twice) = counting([1, 9]);
    let named = ["--scrape", &url, "--scrape-counter", "handshakes_done"];
    let ran = run_against(Lie::Honest, &[&["--conns", "2"][..], &named].concat());
    twice.join().unwrap();
    let warnings = ran.result["warnings"].to_string();
    assert!(warnings.contains("--scrape-counter handshakes_done: there is none"), "{warnings}");
}

#[test]
fn a_counter_that_falls_is_a_server_that_was_restarted() {
    let (url, twice) = counting([5_000, 3]);
    let ran = run_against(Lie::Honest, &["--conns", "2", "--scrape", &url]);
    twice.join().unwrap();
    assert_eq!(ran.exit, Some(3));
    assert!(ran.result["why"].to_string().contains("restarted"), "{}", ran.result["why"]);
}

/// A server's metrics: its count of handshakes before and after.
fn counting(counts: [u64; 2]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let twice = std::thread::spawn(move || {
        for count in counts {
            answer(&listener, &format!("portcullis_handshakes_total {count}\n"));
        }
    });
    (url, twice)
}

/// Answers one request with these metrics.
fn answer(listener: &TcpListener, metrics: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    // All of the request, or the close would be a reset.
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{metrics}").as_bytes()).unwrap();
}

#[test]
fn a_missed_threshold_is_exit_2() {
    let ran = run_against(Lie::Honest, &["--conns", "1", "--fail-if", "p50>1us"]);
    assert_eq!(ran.exit, Some(2));
    let threshold = &ran.result["thresholds"][0];
    let (value, shown) = (threshold["value"].as_f64(), threshold["shown"].as_str().unwrap());
    assert_eq!(shown, portcullis_load::quantity::show_micros(value.unwrap()), "with its unit");
    let ran = run_against(Lie::Resets, &["--conns", "1", "--fail-if", "errors>1%"]);
    assert_eq!(ran.exit, Some(2));
    let ran = run_against(Lie::Resets, &["--conns", "1", "--fail-if", "p99>1s"]);
    assert_eq!(ran.exit, Some(2), "a rule about what was not measured is not met");
    assert_eq!(ran.result["thresholds"][0]["shown"], "not measured");
}

#[test]
fn a_generator_behind_schedule_is_exit_3() {
    let ran = run_against(Lie::Honest, &["--rate", "50/s", "--lag-max", "1us"]);
    assert_eq!(ran.exit, Some(3));
    assert_eq!(ran.result["valid"], false);
    assert!(ran.result["why"].to_string().contains("behind schedule"));
    // Seconds in which nobody was let in tell of it too.
    let ran = run_against(Lie::Closes, &["--rate", "50/s", "--lag-max", "1us"]);
    let ticks = ran.result["ticks"].as_array().unwrap();
    assert!(ticks.iter().any(|tick| tick["lag_max_us"].as_u64().unwrap() > 0), "{ticks:?}");
    let closed = run_against(Lie::Honest, &["--conns", "2", "--lag-max", "1us"]);
    assert_eq!(closed.result["lag_p99_us"], 0.0, "it has no schedule to be late by");
}

#[test]
fn what_this_host_ran_out_of_is_told() {
    let target = start(Lie::Stalls).to_string();
    // Reserved: no address of any host.
    let ran = Scratch::new().run(&target, &["--rate", "20/s", "--source", "240.0.0.0/24"]);
    assert_eq!((ran.exit, ran.only_error().0.as_str()), (Some(3), "local"));
    assert!(ran.result["why"].to_string().contains("--source"), "{}", ran.result["why"]);
    let scratch = Scratch::new();
    let out = scratch.file("out.json");
    let limited = "ulimit -n 20; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_portcullis-load"), "handshakes", "--quiet"])
        .args(["--target", &target, "--conns", "40", "--warmup", "0s", "--duration", "300ms"])
        .args(["--timeout", "300ms", "--out", out.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let result = std::fs::read_to_string(&out).unwrap();
    assert!(result.contains("Too many open files") && result.contains("ulimit -n"), "{result}");
}

#[test]
fn arrivals_beyond_the_limit_are_dropped_and_counted() {
    let ran =
        run_against(Lie::Stalls, &["--rate", "100/s", "--max-inflight", "5", "--timeout", "300ms"]);
    let dropped = ran.count("dropped");
    let attempted = ran.count("attempted");
    assert!(dropped > 0 && dropped < attempted, "{dropped} of {attempted}");
    assert_eq!(ran.result["errors"]["dropped-by-generator"].as_u64(), Some(dropped));
}

#[test]
fn histograms_are_in_the_encoding_of_others() {
    let ran = run_against(Lie::Honest, &["--conns", "2"]);
    let text = ran.result["hist"]["confirmed.full"].as_str().unwrap();
    assert!(text.starts_with("HISTFAAA"));
    let histogram = portcullis_load::histogram_code::decode(text).unwrap();
    assert_eq!(histogram.len(), ran.count("full"));
}

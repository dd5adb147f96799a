//! `mosquitto_pub` and `mosquitto_sub` over mutual TLS to a real broker that speaks plain MQTT.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kit::Identity;
use tempfile::TempDir;

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Running, command, find, must, run, serve};
use crate::sample::Sample;

const PACKAGES: &str = "mosquitto mosquitto-clients";

pub(crate) struct Mqtt {
    publish: PathBuf,
    subscribe: PathBuf,
    broker: Running,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

#[test]
fn a_subscriber_hears_what_a_publisher_says() {
    let Some(mqtt) = Mqtt::start() else { return };
    // The gateway chooses the version: mosquitto's --tls-version is the least it speaks.
    for (number, version) in [("1.2", TLS12), ("1.3", TLS13)] {
        let options = format!("alpn = [\"mqtt\"]\nversions = [\"{number}\"]");
        let front = Front::before_with(mqtt.address, &options);
        let call = |program, words: &str| {
            let words = format!("--tls-alpn mqtt -t gate/{number} -q 1 {words}");
            client(program, &front, Some(&front.client), &words)
        };
        let subscribe = format!("-i subscriber-{number} -C 2");
        let subscriber = Running::start(call(&mqtt.subscribe, &subscribe));
        mqtt.broker.wait_for(&format!("Sending SUBACK to subscriber-{number}"));
        must(call(&mqtt.publish, "-m who-goes-there"));
        let long = mqtt.folder.path().join("long");
        fs::write(&long, "m".repeat(MESSAGE_BYTES)).unwrap();
        must(call(&mqtt.publish, &format!("-f {}", long.display())));
        let heard = subscriber.finish();
        assert!(heard.status.success(), "{}", heard.text);
        let heard = heard.text.split_once('\n').unwrap();
        assert_eq!((heard.0, heard.1.len()), ("who-goes-there", MESSAGE_BYTES + 1));
        let line = front.served(version, false);
        assert_eq!(line["tls"]["alpn"], "mqtt", "{line}");
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    }
}

#[test]
fn the_sample_serves_devices_and_nobody_else() {
    let Some(mqtt) = Mqtt::start() else { return };
    let sample = Sample::prepare("mqtt.toml").with("127.0.0.1:1883", mqtt.address);
    sample.make("pki client clerk --spiffe spiffe://example.com/office/clerk");
    let served = sample.start();
    let call = |program: &Path, who: &str, words: &str| {
        let pair = format!("--cert pki/{who}.crt --key pki/{who}.key");
        let host = "-h localhost -p {port} --cafile pki/ca.crt";
        served.command(program, &format!("{host} {pair} -t doors/front {words}"))
    };
    let subscriber = Running::start(call(&mqtt.subscribe, "device-7", "-q 1 -i sub -C 1"));
    mqtt.broker.wait_for("Sending SUBACK to sub");
    must(served.said(&["mosquitto_pub "], "-q 1"));
    assert_eq!(subscriber.finish().text, "open\n");
    let line = served.logged(|line| line["outcome"] == "closed");
    assert_eq!(line["client"]["sans"][0], "uri:spiffe://example.com/device/7", "{line}");
    let clerk = run(call(&mqtt.publish, "clerk", "-m open"));
    assert!(!clerk.status.success(), "{}", clerk.text);
    served.refused("not_authorized");
}

#[test]
fn mosquitto_pub_is_told_why_it_is_refused() {
    let Some(mqtt) = Mqtt::start() else { return };
    for (number, none) in
        [("1.2", "alert handshake failure"), ("1.3", "alert certificate required")]
    {
        let front = Front::before_with(mqtt.address, &format!("versions = [\"{number}\"]"));
        for (identity, words, reason) in [
            (None, none, "no_certificate"),
            (Some(&front.stranger), "alert unknown ca", "unknown_issuer"),
        ] {
            let finished = run(client(&mqtt.publish, &front, identity, "-d -t gate/x -m x"));
            assert!(!finished.status.success(), "{}", finished.text);
            assert!(finished.text.contains(words), "{words}: {}", finished.text);
            front.refused(reason);
        }
    }
}

impl Mqtt {
    pub(crate) fn start() -> Option<Self> {
        let (publish, subscribe, broker) = (
            find("mosquitto_pub", PACKAGES)?,
            find("mosquitto_sub", PACKAGES)?,
            find("mosquitto", PACKAGES)?,
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let (broker, address) = serve(" running", |port| {
            let text = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
                 log_dest stderr\nlog_type all\n"
            );
            fs::write(&file, text).unwrap();
            command(&broker, &format!("-c {}", file.display()))
        });
        Some(Self { publish, subscribe, broker, address, folder })
    }
}

/// By the name: mosquitto sends the host as SNI and compares it with the certificate.
fn client(program: &Path, front: &Front, identity: Option<&Identity>, words: &str) -> Command {
    let mut command = front.command(program, "-h localhost -p {port} --cafile {ca}");
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.chain_path).arg("--key").arg(&identity.key_path);
    }
    command.args(words.split_whitespace());
    command
}

const MESSAGE_BYTES: usize = 200_000;

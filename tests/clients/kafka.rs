//! A Kafka producer (kafka-python) through `config/kafka.toml` to two brokers by their own names. No
//! broker is packaged for Debian: `kafka_broker.py` speaks as much of the protocol as a producer needs.

use std::path::{Path, PathBuf};

use crate::program::{Finished, Running, command, python_with, run, serve};
use crate::sample::{Sample, Served};

struct Cluster {
    python: PathBuf,
    brokers: [Running; 2],
    served: Served,
}

#[test]
fn each_partition_is_sent_to_its_leader_by_the_brokers_name() {
    let Some(cluster) = Cluster::start() else { return };
    let finished = produce(&cluster, "pki/alice.crt pki/alice.key");
    assert_eq!(finished.text, "sent to partition 0\nsent to partition 1\n");
    cluster.brokers[0].wait_for("b1 took partition 0");
    cluster.brokers[1].wait_for("b2 took partition 1");
    for (chain, name) in [
        ("bootstrap", "kafka.example.com"),
        ("b1", "b1.kafka.example.com"),
        ("b2", "b2.kafka.example.com"),
    ] {
        let line = cluster.served.logged(|line| line["chain"] == chain);
        assert_eq!(line["sni"], name, "{line}");
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    }
}

#[test]
fn a_producer_without_certificate_is_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let finished = produce(&cluster, "");
    assert!(finished.text.starts_with("refused: "), "{}", finished.text);
    cluster.served.refused("no_certificate");
}

impl Cluster {
    fn start() -> Option<Self> {
        let probe = "import kafka; assert int(kafka.__version__.split('.')[0]) >= 3";
        let python = python_with(probe, "kafka-python 3 or later", "kafka-python>=3.0")?;
        let broker = |number: u16| {
            serve(&format!("b{number} listens"), |port| {
                let mut command = command(&python, "");
                command.arg(script("kafka_broker.py"));
                command.args([&number.to_string(), &port.to_string(), TOPIC]);
                command
            })
        };
        let ((first, first_at), (second, second_at)) = (broker(1), broker(2));
        let mut brokers = [first, second];
        let sample = Sample::prepare("kafka.toml").with("127.0.0.1:9191", first_at);
        let served = sample.with("127.0.0.1:9192", second_at).start();
        // What they advertise.
        for broker in &mut brokers {
            broker.say(&format!("{}\n", served.port()));
        }
        Some(Self { python, brokers, served })
    }
}

fn produce(cluster: &Cluster, identity: &str) -> Finished {
    let mut command = cluster.served.command(&cluster.python, "");
    command.arg(script("kafka_client.py")).arg(cluster.served.port().to_string());
    command.args(["pki/ca.crt", TOPIC]).args(identity.split_whitespace());
    run(command)
}

fn script(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file)
}

const TOPIC: &str = "gate";

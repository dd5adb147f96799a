"""A producer at the gateway: PORT CA TOPIC [CERTIFICATE KEY]. `kafka.rs` reads its words.

All names of the brokers lead to 127.0.0.1, as DNS would say.
"""

import socket
import sys

import kafka

port, ca, topic = sys.argv[1:4]
certificate, key = sys.argv[4:6] if len(sys.argv) > 4 else (None, None)

resolve = socket.getaddrinfo


def to_loopback(host, *rest, **more):
    is_ours = isinstance(host, str) and host.endswith("kafka.example.com")
    return resolve("127.0.0.1" if is_ours else host, *rest, **more)


socket.getaddrinfo = to_loopback

try:
    producer = kafka.KafkaProducer(
        bootstrap_servers=f"kafka.example.com:{port}",
        security_protocol="SSL",
        ssl_cafile=ca,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        max_block_ms=10_000,
        bootstrap_timeout_ms=10_000 if certificate else 2_000,
        enable_idempotence=False,
    )
    for partition in producer.partitions_for(topic):
        sent = producer.send(topic, b"who goes there" * 1_000, partition=partition)
        print("sent to partition", sent.get(timeout=10).partition)
    producer.close()
except kafka.errors.KafkaError as error:
    sys.exit(f"refused: {error!r}")

"""A broker as far as a gateway can tell: ID PORT TOPIC, and the gateway's port on standard input.

Speaks Kafka's protocol in plain text to a producer that asks for the brokers and then sends to the
leader of each partition. There are two brokers, `b1` and `b2`, each the leader of one partition, and
known by names that lead to the gateway. Prints a line for each batch that it is sent.
"""

import socketserver
import struct
import sys

broker, port, topic = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

PRODUCE, METADATA, API_VERSIONS = 0, 3, 18
# What is spoken, from one version to another.
VERSIONS = {PRODUCE: (3, 3), METADATA: (1, 1), API_VERSIONS: (0, 0)}
UNSUPPORTED_VERSION = 35


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def listed(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def api_versions(error):
    ranges = [struct.pack(">hhh", key, *versions) for key, versions in VERSIONS.items()]
    return struct.pack(">h", error) + listed(ranges)


def metadata():
    brokers = [
        struct.pack(">i", number)
        + text(f"b{number}.kafka.example.com")
        + struct.pack(">ih", gateway_port, -1)
        for number in (1, 2)
    ]
    partitions = [
        struct.pack(">hii", 0, partition, leader) + struct.pack(">iiii", 1, leader, 1, leader)
        for partition, leader in ((0, 1), (1, 2))
    ]
    known = struct.pack(">h", 0) + text(topic) + b"\0" + listed(partitions)
    return listed(brokers) + struct.pack(">i", 1) + listed([known])


def produced(body):
    """Version 3: transactional id, acks, timeout, topics, each with partitions and their records."""
    (length,) = struct.unpack_from(">h", body)
    at = 2 + max(length, 0) + 6
    answers = []
    (topics,) = struct.unpack_from(">i", body, at)
    at += 4
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", body, at)
        name = body[at + 2 : at + 2 + length].decode()
        (count,) = struct.unpack_from(">i", body, at + 2 + length)
        at += 2 + length + 4
        partitions = []
        for _ in range(count):
            partition, size = struct.unpack_from(">ii", body, at)
            at += 8 + size
            print(f"b{broker} took partition {partition}, {size} bytes", flush=True)
            partitions.append(struct.pack(">ihqq", partition, 0, 0, -1))
        answers.append(text(name) + listed(partitions))
    return listed(answers) + struct.pack(">i", 0)


class Broker(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.serve()
        except ConnectionResetError:
            pass  # How this client ends a connection.

    def serve(self):
        while head := self.rfile.read(4):
            request = self.rfile.read(*struct.unpack(">i", head))
            key, version, correlation, name = struct.unpack_from(">hhih", request)
            body = request[10 + max(name, 0) :]
            if key == API_VERSIONS:
                answer = api_versions(0 if version == 0 else UNSUPPORTED_VERSION)
            elif key == METADATA:
                answer = metadata()
            elif key == PRODUCE:
                answer = produced(body)
            else:
                sys.exit(f"request {key} version {version}")
            answer = struct.pack(">i", correlation) + answer
            self.wfile.write(struct.pack(">i", len(answer)) + answer)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Server(("127.0.0.1", port), Broker) as server:
    print(f"b{broker} listens", flush=True)
    gateway_port = int(sys.stdin.readline())
    server.serve_forever()

"""Three connections to an echo behind the gateway: PORT CA VERSION [CERTIFICATE KEY].

Each resumes the session of the one before and prints a line. `python.rs` reads the lines.
"""

import select
import socket
import ssl
import sys

port, ca, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}[version]
if len(sys.argv) > 4:
    context.load_cert_chain(sys.argv[4], sys.argv[5])

message = bytes(range(256)) * 4096  # 1 MiB: more than any buffer on the way


def exchange(stream, message):
    """Sends and receives as much at once as the peer takes. One thread: an SSL object has no lock."""
    stream.setblocking(False)
    sent, echoed = 0, bytearray()
    while len(echoed) < len(message):
        waits = [stream], []
        try:
            if sent < len(message):
                sent += stream.send(message[sent : sent + 65536])
        except ssl.SSLWantWriteError:
            waits = [stream], [stream]
        except ssl.SSLWantReadError:
            pass
        try:
            received = stream.recv(65536)
            assert received, "the stream ended early"
            echoed += received
            continue
        except ssl.SSLWantReadError:
            pass
        if sent == len(message) or waits[1]:
            assert any(select.select(*waits, [], 20)), "the peer hangs"
    stream.settimeout(20)
    return bytes(echoed)


session = None
for _ in range(3):
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream = context.wrap_socket(plain, server_hostname="localhost", session=session)
    assert stream.version() == version
    # A first byte there and back: in TLS 1.3 the refusal and the tickets come after the handshake.
    stream.sendall(message[:1])
    assert stream.recv(1) == message[:1]
    echoed = exchange(stream, message)
    session, reused = stream.session, stream.session_reused
    # Sends close_notify and waits for the peer's: raises when the peer just hangs up.
    plain = stream.unwrap()
    unwrapped = plain.recv(1) == b""
    plain.close()
    print(f"reused={reused} echoed={echoed == message} unwrapped={unwrapped}")

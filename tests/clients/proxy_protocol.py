"""An HTTP server that answers with the PROXY header it was sent, as proxy-protocol reads it: PORT.

Prints "serving" once it listens. The package verifies the checksum where crc32c is there, too.
`proxy_protocol.rs` reads the answers.
"""

import socketserver
import sys

import crc32c  # noqa: F401  without it proxy-protocol verifies no checksum
from proxyprotocol import ProxyProtocolIncompleteError
from proxyprotocol.v2 import ProxyProtocolV2


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        data = b""
        while True:
            try:
                result = ProxyProtocolV2().unpack(data)
                break
            except ProxyProtocolIncompleteError as error:
                data += self.rfile.read(error.want_read.want_bytes)
        while self.rfile.readline().strip():
            pass
        tlv, ssl = result.tlv, result.tlv.ssl
        lines = {
            "source": "%s:%d" % result.source,
            "dest": "%s:%d" % result.dest,
            "alpn": tlv.alpn.decode(),
            "authority": tlv.authority,
            "unique_id": tlv.unique_id.decode(),
            "summed": tlv.crc32c is not None,
            "identity": tlv[0xE0].decode(),
            "flags": (ssl.has_ssl, ssl.has_cert_conn, ssl.has_cert_sess, ssl.verified),
            "version": ssl.version,
            "cn": ssl.cn,
            "cipher": ssl.cipher,
            "sig_alg": ssl.sig_alg,
            "key_alg": ssl.key_alg,
        }
        body = "".join("%s=%s\n" % line for line in lines.items())
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body.encode())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("serving", flush=True)
    server.serve_forever()

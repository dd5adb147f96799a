"""Three connections by wolfSSL's C library to an echo behind the gateway: PORT CA VERSION [CERTIFICATE KEY].

Each resumes the session of the one before and prints a line. `wolfssl.rs` reads the lines.
"""

import ctypes
import socket
import sys

port, ca, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
identity = sys.argv[4:6]

lib = ctypes.CDLL("libwolfssl.so")
for name in ("CTX_new", "new", "get1_session"):
    getattr(lib, f"wolfSSL_{name}").restype = ctypes.c_void_p
method = lib.wolfTLSv1_3_client_method if version == "TLSv1.3" else lib.wolfTLSv1_2_client_method
method.restype = ctypes.c_void_p
PEM = 1


def pointer(value):
    return ctypes.c_void_p(value)


def check(what, result, wanted=1):
    if result != wanted:
        sys.exit(f"{what}: {result}")


def failed(ssl, what, result):
    code = lib.wolfSSL_get_error(ssl, result)
    text = ctypes.create_string_buffer(128)
    lib.wolfSSL_ERR_error_string(ctypes.c_ulong(code & (2**64 - 1)), text)
    sys.exit(f"{what}: {code}, {text.value.decode()}")


check("wolfSSL_Init", lib.wolfSSL_Init())
context = pointer(lib.wolfSSL_CTX_new(pointer(method())))
check("CA", lib.wolfSSL_CTX_load_verify_locations(context, ca.encode(), None))
if identity:
    chain, key = (path.encode() for path in identity)
    check("chain", lib.wolfSSL_CTX_use_certificate_chain_file(context, chain))
    check("key", lib.wolfSSL_CTX_use_PrivateKey_file(context, key, PEM))
check("tickets", lib.wolfSSL_CTX_UseSessionTicket(context))

session = None
for _ in range(3):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.setblocking(True)
        ssl = pointer(lib.wolfSSL_new(context))
        check("SNI", lib.wolfSSL_UseSNI(ssl, 0, b"localhost", 9))
        check("name", lib.wolfSSL_check_domain_name(ssl, b"localhost"))
        check("descriptor", lib.wolfSSL_set_fd(ssl, stream.fileno()))
        if session:
            check("session", lib.wolfSSL_set_session(ssl, session))
        result = lib.wolfSSL_connect(ssl)
        if result != 1:
            failed(ssl, "handshake", result)
        sent = b"who goes there"
        check("write", lib.wolfSSL_write(ssl, sent, len(sent)), len(sent))
        answer = b""
        while len(answer) < len(sent):
            buffer = ctypes.create_string_buffer(1024)
            result = lib.wolfSSL_read(ssl, buffer, len(buffer))
            if result <= 0:
                failed(ssl, "read", result)
            answer += buffer.raw[:result]
        resumed = lib.wolfSSL_session_reused(ssl) == 1
        print(f"resumed={resumed} echoed={answer == sent}", flush=True)
        session = pointer(lib.wolfSSL_get1_session(ssl))
        lib.wolfSSL_shutdown(ssl)

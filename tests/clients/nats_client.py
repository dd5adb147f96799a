"""A subscriber and a publisher at the gateway: PORT first|second [CERTIFICATE KEY], in the folder of pki/.

`first` begins with TLS, `second` as clients do by default. `nats.rs` reads the words.
"""

import asyncio
import ssl
import sys

import nats

port, order = sys.argv[1:3]
context = ssl.create_default_context(cafile="pki/ca.crt")
if len(sys.argv) > 3:
    context.load_cert_chain(*sys.argv[3:5])


async def ignore(_):
    """Errors come out of connect() as well."""


async def connect():
    return await nats.connect(
        f"tls://127.0.0.1:{port}",
        tls=context,
        tls_hostname="nats.example.com",
        tls_handshake_first=order == "first",
        connect_timeout=20,
        allow_reconnect=False,
        error_cb=ignore,
    )


async def main():
    try:
        subscriber, publisher = await connect(), await connect()
        heard = await subscriber.subscribe("gate.*")
        await subscriber.flush(timeout=20)
        for number in range(1_000):
            await publisher.publish(f"gate.{number}", b"n" * 1_000)
        await publisher.flush(timeout=20)
        messages = [await heard.next_msg(timeout=20) for _ in range(1_000)]
        assert [message.subject for message in messages] == [f"gate.{n}" for n in range(1_000)]
        print("heard")
        await publisher.publish("gate.large", b"n" * 1_000_000)
        large = await heard.next_msg(timeout=20)
        assert large.data == b"n" * 1_000_000
        print("heard all")
        await subscriber.close()
        await publisher.close()
    except (OSError, nats.errors.Error) as error:
        sys.exit(f"refused: {error!r}")


asyncio.run(main())

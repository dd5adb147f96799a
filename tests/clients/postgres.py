"""A session with PostgreSQL behind the gateway: PORT CA VERSION [CERTIFICATE KEY].

Prints a word for each thing that worked. `postgres.rs` reads the words.
"""

import sys

import psycopg

port, ca, version = sys.argv[1:4]
options = {
    "host": "localhost",
    "hostaddr": "127.0.0.1",
    "port": port,
    "user": "postgres",
    "dbname": "postgres",
    "connect_timeout": 20,
    "sslmode": "verify-full",
    "sslnegotiation": "direct",  # TLS from the first byte, with ALPN "postgresql"
    "sslrootcert": ca,
    "ssl_min_protocol_version": version,
    "ssl_max_protocol_version": version,
    # Not those of whoever runs the tests.
    "sslcert": "/nonexistent",
    "sslkey": "/nonexistent",
    "gssencmode": "disable",
}
if len(sys.argv) > 4:
    options["sslcert"], options["sslkey"] = sys.argv[4:6]

try:
    connection = psycopg.connect(**options, autocommit=True)
except psycopg.OperationalError as error:
    sys.exit(f"refused: {error}")

with connection, connection.cursor() as cursor:
    cursor.execute("SELECT repeat('x', 5000000), %s::text", ["who goes there"])
    large, echoed = cursor.fetchone()
    assert large == "x" * 5_000_000 and echoed == "who goes there"
    print("queried")

    rows = 100_000
    cursor.execute("CREATE TEMPORARY TABLE numbers (number bigint, text text)")
    with cursor.copy("COPY numbers FROM STDIN") as copy:
        for number in range(rows):
            copy.write_row((number, f"row {number}"))
    with cursor.copy("COPY (SELECT number FROM numbers ORDER BY number) TO STDOUT") as copy:
        numbers = [int(row[0]) for row in copy.rows()]
    assert numbers == list(range(rows))
    print("copied")

    cursor.execute("LISTEN gate")
    with psycopg.connect(**options, autocommit=True) as other:
        other.execute("NOTIFY gate, 'open'")
    for notice in connection.notifies(timeout=20, stop_after=1):
        assert notice.payload == "open"
        print("notified")

"""Classic and direct negotiation, and a cancelled query: HOST PORT NEGOTIATION, in the folder of pki/.

Prints a word for each thing that worked. `postgres.rs` reads the words.
"""

import sys
import threading

import psycopg

host, port, negotiation = sys.argv[1:4]
options = {
    "host": host,
    "hostaddr": "127.0.0.1",
    "port": port,
    "user": "postgres",
    "dbname": "postgres",
    "connect_timeout": 20,
    "sslmode": "verify-full",
    "sslnegotiation": negotiation,
    "sslrootcert": "pki/ca.crt",
    "sslcert": "pki/alice.crt",
    "sslkey": "pki/alice.key",
}


def connect():
    return psycopg.connect(**options, autocommit=True)


with connect() as connection, connect() as other:
    print(connection.execute("SELECT current_setting('cluster_name')").fetchone()[0])

    outcome = []

    def sleep():
        try:
            connection.execute("SELECT pg_sleep(600)")
        except psycopg.errors.QueryCanceled:
            outcome.append("cancelled")

    sleeper = threading.Thread(target=sleep, daemon=True)
    sleeper.start()
    running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    while other.execute(running, [connection.info.backend_pid]).fetchone()[0] == 0:
        pass
    # libpq 17 and later: a connection of its own, in TLS like the first.
    connection.cancel_safe(timeout=20)
    sleeper.join(timeout=20)
    print(*outcome)

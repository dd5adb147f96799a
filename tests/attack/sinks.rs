//! Logs: what a peer says never breaks a line, and a sink that blocks stops nobody.

use std::io::Write;

use portcullis_kit::{
    ClientSpec, ClientTls, Gateway, PATIENCE, PlainEcho, connect_plain, connect_tls,
};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::hello::{Hello, PRE_SHARED_KEY};
use super::support::{BINARY, Keys, NAME, Pki, crowd, echo, until_closed};

/// What would break a line, a string, a label or a terminal.
const HOSTILE: [&[u8]; 6] = [
    b"a\"b.test",
    b"a\nready listener.edge=1.2.3.4:1",
    b"a\\\r\n{\"outcome\":\"closed\"}",
    b"\x1b[2J\x07\x00\x7f",
    b"a} 1\nportcullis_panics_total 7\n",
    b"\xff\xfe\xe2\x80\xa8\xe2\x80\xae",
];

// threat 48
#[test]
fn names_never_break_a_log_line_or_a_metric() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    for format in ["json", "text"] {
        let tables = format!("[access_log]\nformat = \"{format}\"\n[log]\nlevel = \"trace\"");
        let gateway = pki.gateway(upstream.address(), Keys { tables: &tables, ..Keys::default() });
        for name in HOSTILE {
            let hello = Hello::recorded().without(PRE_SHARED_KEY).server_name(name);
            let mut socket = connect_plain(gateway.addr("edge")).unwrap();
            socket.write_all(&hello.wire()).unwrap();
            assert_eq!(until_closed(&socket), [21, 3, 3, 0, 2, 2, 112], "unrecognized_name");
        }
        // Names in a certificate are checked by nobody but read by people.
        for name in HOSTILE {
            let name = String::from_utf8_lossy(name).replace('\0', "");
            let mallory = pki.ca.client(&ClientSpec::new(&name));
            let config = ClientTls::trusting(&pki.ca).identity(&mallory).build();
            echo(&mut connect_tls(gateway.addr("edge"), NAME, &config).unwrap());
        }
        let metrics = gateway.admin_get("/metrics").1;
        assert!(metrics.is_ascii(), "{metrics}");
        assert!(!metrics.contains("panics_total 7"), "{metrics}");
        match format {
            "json" => assert_eq!(gateway.settled().refusals("sni_invalid"), 6),
            _ => {
                let mut gateway = gateway;
                gateway.signal(rustix::process::Signal::TERM);
                gateway.wait_exit(PATIENCE);
                let text = gateway.other_output();
                assert!(!text.contains(['\u{1b}', '\u{2028}', '\u{202e}', '\r']), "{text:?}");
                assert_eq!(text.lines().filter(|line| line.contains(" id=")).count(), 12, "{text}");
            }
        }
    }
}

// threat 43
#[test]
fn an_access_log_that_nobody_reads_stops_nobody() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("access");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let tables = format!("[access_log]\npath = \"{}\"", fifo.display());
    let config = pki.config(upstream.address(), Keys { tables: &tables, ..Keys::default() });
    let mut gateway = Gateway::start(BINARY, &config);
    let mut session = pki.session(&gateway);
    // The fifo takes 64 KiB, the queue 8,192 records.
    for _ in 0..90 {
        let mut sockets = crowd(gateway.addr("edge"), 100);
        sockets.iter_mut().for_each(|socket| socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap());
        sockets.iter().for_each(|socket| drop(until_closed(socket)));
    }
    echo(&mut session);
    echo(&mut pki.session(&gateway));
    let metrics = gateway.metrics();
    assert_eq!(metrics.refusals("not_tls"), 9_000);
    let dropped = metrics.sum("portcullis_access_log_dropped_total", &[]);
    assert!(dropped > 0, "the queue has an end");
    drop(session);
    gateway.signal(rustix::process::Signal::TERM);
    gateway.wait_exit(PATIENCE);
}

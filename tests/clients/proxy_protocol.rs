//! PROXY headers of ours as HAProxy, nginx and the Python package proxy-protocol read them, and those
//! of HAProxy as we do. The client is curl, which comes from an address of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use portcullis_kit::{Authority, Identity};
use serde_json::Value;
use tempfile::TempDir;

use crate::curl::http_echo;
use crate::front::{Front, Lines};
use crate::program::{Running, command, find, missing, must, run, serve};

const CLIENT: &str = "127.0.0.9";

const FIELDS: &str = r#"tlvs = ["ssl", "authority", "alpn", "unique_id", "identity", "crc32c"]"#;

/// A web server to which a header comes first, and then TLS or plain HTTP.
struct Reader {
    _running: Running,
    address: SocketAddr,
    /// With its configuration.
    _folder: TempDir,
}

/// The upstreams' authority and their server.
struct Upstream {
    authority: Authority,
    server: Identity,
}

impl Upstream {
    fn new() -> Self {
        let authority = Authority::new("Upstreams CA");
        let server = authority.server(&["upstream.test"]);
        Self { authority, server }
    }

    /// Keys of the cluster, and the tables behind it that its TLS needs.
    fn cluster(&self, header: &str, tls: bool) -> String {
        if !tls {
            return format!("proxy_protocol = {header}");
        }
        let anchors = self.authority.ca_path();
        format!(
            "proxy_protocol = {header}\ntls = \"up\"\n[tls.upstream.up]\nserver_name = \"upstream.test\"\n\
             trust = \"up\"\n[trust.up]\nanchors = [{anchors:?}]"
        )
    }
}

/// What curl gets through the gateway, and the gateway's line about it.
fn fetch(curl: &Path, front: &Front, port: u16) -> (String, Value) {
    let words = format!(
        "--silent --show-error --max-time 20 --interface {CLIENT} --cacert {{ca}} \
         --connect-to localhost:443:127.0.0.1:{port} https://localhost/"
    );
    let mut request = front.command(curl, &words);
    request.arg("--cert").arg(&front.client.chain_path);
    request.arg("--key").arg(&front.client.key_path);
    let body = must(request);
    let line = front.logged(|line| line["outcome"] == "closed");
    (body, line)
}

/// "203.0.113.9 40123" of an address as the log writes it.
fn words(address: &Value) -> String {
    address.as_str().unwrap().replace(':', " ")
}

#[test]
fn haproxy_reads_what_it_is_sent() {
    let (Some(curl), Some(haproxy)) = (find("curl", "curl"), find("haproxy", "haproxy")) else {
        return;
    };
    let upstream = Upstream::new();
    let can_read_vectors = haproxy_version(&haproxy) >= (2, 9);
    for (header, tls) in [
        ("{ version = 1 }", false),
        (&format!("{{ {FIELDS} }}"), false),
        (&format!("{{ {FIELDS} }}"), true),
    ] {
        let reader = haproxy_reader(&haproxy, &upstream, tls, can_read_vectors);
        let cluster = &upstream.cluster(header, tls);
        let front = Front::between(reader.address, &Lines { cluster, ..Lines::default() });
        let (body, line) = fetch(&curl, &front, front.port());
        let (source, local) = (words(&line["source"]), words(&line["local"]));
        let addresses = format!("{source} {local}");
        assert!(source.starts_with(CLIENT), "{line}");
        if header.contains("version = 1") {
            assert_eq!(body.trim(), addresses, "{line}");
            continue;
        }
        let id = line["id"].as_str().unwrap();
        let more = if can_read_vectors { " spiffe://example.test/alice" } else { "" };
        assert_eq!(body.trim(), format!("{addresses} localhost {id}{more}"), "{line}");
        assert_eq!(line["upstream_tls"].is_object(), tls, "{line}");
    }
}

/// HAProxy answers with what it read; the sum of a header that has one it verifies.
fn haproxy_reader(haproxy: &Path, upstream: &Upstream, tls: bool, vectors: bool) -> Reader {
    let folder = tempfile::tempdir().unwrap();
    let pair = folder.path().join("pair.pem");
    let pem = |path: &Path| fs::read_to_string(path).unwrap();
    fs::write(&pair, pem(&upstream.server.chain_path) + &pem(&upstream.server.key_path)).unwrap();
    let ssl = if tls { format!("ssl crt {}", pair.display()) } else { String::new() };
    let identity = if vectors { " %[fc_pp_tlv(0xE0)]" } else { "" };
    let config = folder.path().join("haproxy.cfg");
    let (running, address) = serve(HAPROXY_READY, |port| {
        let text = format!(
            "{HAPROXY_DEFAULTS}    mode http\nfrontend reader\n\
             \x20   bind 127.0.0.1:{port} accept-proxy {ssl}\n\
             \x20   http-request return status 200 content-type text/plain lf-string \"%[src] \
             %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]{identity}\"\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = command(haproxy, "-W -db -f");
        command.arg(&config);
        command
    });
    Reader { _running: running, address, _folder: folder }
}

#[test]
fn haproxys_headers_name_its_clients() {
    let (Some(curl), Some(haproxy)) = (find("curl", "curl"), find("haproxy", "haproxy")) else {
        return;
    };
    let upstream = http_echo("one");
    for (sends, kind) in [
        ("send-proxy", "PROXY TCP4"),
        ("send-proxy-v2", "version 2"),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "version 2 with a checksum"),
    ] {
        let listener = "proxy_protocol = { from = [\"127.0.0.1/32\"] }";
        let front = Front::between(upstream, &Lines { listener, ..Lines::default() });
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("haproxy.cfg");
        let (_running, address) = serve(HAPROXY_READY, |port| {
            let text = format!(
                "{HAPROXY_DEFAULTS}    mode tcp\nlisten balancer\n    bind 127.0.0.1:{port}\n\
                 \x20   unique-id-format %ci-%cp\n\
                 \x20   server gateway 127.0.0.1:{} {sends} check inter 200ms check-send-proxy\n",
                front.port()
            );
            fs::write(&config, text).unwrap();
            let mut command = command(&haproxy, "-W -db -f");
            command.arg(&config);
            command
        });
        // HAProxy's own health checks, LOCAL or with its own addresses, harm nobody.
        let check = front.logged(|line| line["reason"] == "probe" && line["proxy"].is_string());
        assert_eq!(check["proxy"], check["source"], "{kind}: {check}");
        let (_, line) = fetch(&curl, &front, address.port());
        let (source, proxy) = (line["source"].as_str(), line["proxy"].as_str());
        assert!(source.is_some_and(|source| source.starts_with(CLIENT)), "{kind}: {line}");
        assert!(proxy.is_some_and(|proxy| proxy.starts_with("127.0.0.1:")), "{kind}: {line}");
    }
}

#[test]
fn nginx_reads_what_it_is_sent() {
    let (Some(curl), Some(nginx)) = (find("curl", "curl"), find("nginx", "nginx")) else { return };
    let upstream = Upstream::new();
    for (header, tls) in [
        ("{ version = 1 }", false),
        ("{ version = 1 }", true),
        ("{ version = 2 }", false),
        ("{ version = 2, tlvs = [\"unique_id\", \"crc32c\"] }", true),
        (&format!("{{ {FIELDS} }}"), false),
    ] {
        let reader = nginx_reader(&nginx, &upstream, tls);
        let cluster = &upstream.cluster(header, tls);
        let front = Front::between(reader.address, &Lines { cluster, ..Lines::default() });
        let (body, line) = fetch(&curl, &front, front.port());
        let expected = format!("{} {}", words(&line["source"]), words(&line["local"]));
        assert_eq!(body.trim(), expected, "{header}: {line}");
    }
}

fn nginx_reader(nginx: &Path, upstream: &Upstream, tls: bool) -> Reader {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (upstream.server.chain_path.display(), upstream.server.key_path.display());
    let (ssl, pair) = match tls {
        true => ("ssl", format!("ssl_certificate {chain}; ssl_certificate_key {key};")),
        false => ("", String::new()),
    };
    let config = folder.path().join("nginx.conf");
    let (running, address) = serve("start worker process ", |port| {
        let text = format!(
            "daemon off; pid nginx.pid; error_log stderr notice; events {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d;\n\
             scgi_temp_path e; server {{ listen 127.0.0.1:{port} {ssl} proxy_protocol; {pair}\n\
             location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port \
             $proxy_protocol_server_addr $proxy_protocol_server_port\"; }} }} }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = command(nginx, "-e stderr -p");
        command.arg(folder.path()).arg("-c").arg(&config);
        command
    });
    Reader { _running: running, address, _folder: folder }
}

#[test]
fn pythons_proxy_protocol_reads_every_field() {
    let Some(curl) = find("curl", "curl") else { return };
    let Some(python) = python_with_proxy_protocol() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/proxy_protocol.py");
    let (_server, address) = serve("serving", |port| {
        let mut command = command(&python, "");
        command.arg(&script).arg(port.to_string());
        command
    });
    let cluster = &format!("proxy_protocol = {{ {FIELDS} }}\n");
    let lines = Lines { downstream: "alpn = [\"http/1.1\"]", cluster, ..Lines::default() };
    let front = Front::between(address, &lines);
    let (body, line) = fetch(&curl, &front, front.port());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for (key, expected) in [
        ("source", text(&line["source"])),
        ("dest", text(&line["local"])),
        ("alpn", "http/1.1".to_owned()),
        ("authority", "localhost".to_owned()),
        ("unique_id", text(&line["id"])),
        ("summed", "True".to_owned()),
        ("identity", "spiffe://example.test/alice".to_owned()),
        ("flags", "(True, True, True, True)".to_owned()),
        ("version", "TLSv1.3".to_owned()),
        ("cn", "alice".to_owned()),
        ("cipher", "TLS_AES_128_GCM_SHA256".to_owned()),
        ("sig_alg", "ecdsa-with-SHA256".to_owned()),
        ("key_alg", "EC256".to_owned()),
    ] {
        assert!(body.lines().any(|line| line == format!("{key}={expected}")), "{key}: {body}");
    }
}

fn python_with_proxy_protocol() -> Option<PathBuf> {
    let python = find("python3", "python3")?;
    let mut import = command(&python, "-c");
    import.arg("import proxyprotocol, crc32c");
    if !run(import).status.success() {
        missing("proxy-protocol", "python3-venv, then pip install proxy-protocol crc32c");
        return None;
    }
    Some(python)
}

/// Major and minor.
fn haproxy_version(haproxy: &Path) -> (u32, u32) {
    let text = must(command(haproxy, "-v"));
    let version = text.split("version ").nth(1).unwrap();
    let mut numbers = version.split(['.', '-', ' ']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// With -W, HAProxy says so once its worker has its sockets.
const HAPROXY_READY: &str = "Loading success";

const HAPROXY_DEFAULTS: &str =
    "defaults\n    timeout connect 20s\n    timeout client 20s\n    timeout server 20s\n";

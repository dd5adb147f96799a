//! Clients that are turned away: the alert that they get, the record that the operator gets, and that
//! no upstream hears of them.

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Identity, PATIENCE, PlainEcho, Refusal, ServerTls, TlsEcho,
    refusal,
};
use rustls::AlertDescription;

use crate::support::{Config, NAME, Pki};

struct Case<'a> {
    name: &'a str,
    identity: Option<&'a Identity>,
    reason: &'a str,
    /// In TLS 1.3 and 1.2.
    alerts: [AlertDescription; 2],
    /// What the detail says.
    detail: &'a str,
}

#[test] // threat 10
fn a_refused_client_gets_the_right_alert_and_a_whole_record() {
    let pki = Pki::new();
    let strangers = Authority::new("Strangers");
    let intermediate = pki.ca.intermediate("Partner Intermediate");
    let stranger = strangers.client(&ClientSpec::new("mallory"));
    let expired = pki.ca.client(&ClientSpec::new("old-timer").expired());
    let early = pki.ca.client(&ClientSpec::new("newcomer").not_yet_valid());
    let purpose = pki.ca.client(&ClientSpec::new("server-cert").wrong_eku());
    let leaf_only = intermediate.client(&ClientSpec::new("lonely")).leaf_only();
    let upstream = PlainEcho::start();
    let gateway = Config::edge(&pki, upstream.address()).start();
    use AlertDescription as A;
    let case = |name, identity, reason, alert, detail| Case {
        name,
        identity,
        reason,
        alerts: [alert; 2],
        detail,
    };
    let missing = Case {
        alerts: [A::CertificateRequired, A::HandshakeFailure],
        ..case("nobody", None, "no_certificate", A::CertificateRequired, "")
    };
    let cases = [
        missing,
        case("mallory", Some(&stranger), "unknown_issuer", A::UnknownCA, "Strangers"),
        case("lonely", Some(&leaf_only), "unknown_issuer", A::UnknownCA, "Partner Intermediate"),
        case("old-timer", Some(&expired), "certificate_expired", A::CertificateExpired, "ago"),
        case("newcomer", Some(&early), "certificate_not_yet_valid", A::CertificateExpired, "in "),
        case("server-cert", Some(&purpose), "certificate_purpose", A::UnsupportedCertificate, ""),
    ];
    for Case { name, identity, reason, alerts, detail } in &cases {
        for (tls12, alert) in [false, true].into_iter().zip(alerts) {
            let client = ClientTls::trusting(&pki.ca);
            let client = match identity {
                Some(identity) => client.identity(identity),
                None => client,
            };
            let client = if tls12 { client.only_tls12() } else { client.only_tls13() };
            let seen = gateway.access_log().len();
            let got = refusal(gateway.addr("edge"), NAME, &client.build());
            assert_eq!(got, Refusal::Alert(*alert), "{name}, 1.2: {tls12}");
            let mut place = 0;
            let line = gateway.wait_access(PATIENCE, |_| {
                place += 1;
                place > seen
            });
            assert_eq!(line["reason"], *reason, "{line}");
            assert_eq!(line["outcome"], "refused", "{line}");
            assert_eq!(line["alert"], u8::from(*alert), "{line}");
            assert_eq!(line["sni"], NAME, "{line}");
            assert_eq!(line["chain"], "default", "{line}");
            assert!(line["hint"].as_str().is_some_and(|hint| hint.len() > 20), "{line}");
            let said = line["detail"].as_str().unwrap_or_default();
            assert!(said.contains(detail), "{line}");
            if identity.is_some() {
                assert!(said.contains(name), "the detail names the certificate: {line}");
            }
            assert_eq!(line["bytes_received"], 0, "{line}");
        }
    }
    // Neither a connection nor a byte reached the upstream.
    let metrics = gateway.settled();
    assert_eq!((upstream.counts().accepted, upstream.counts().bytes), (0, 0));
    assert_eq!(metrics.sum("portcullis_upstream_dials_total", &[]), 0);
    for Case { name, reason, .. } in &cases {
        let times = cases.iter().filter(|case| case.reason == *reason).count() as u64;
        assert_eq!(metrics.refusals(reason), 2 * times, "{name}");
    }
}

#[test] // threat 10
fn a_ready_upstream_connection_carries_nothing_of_a_refused_client() {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[upstream.address()],
            "tls = \"db\"\npool = { ready_min = 2, ready_max = 4 }",
        )
        .start();
    upstream.wait("two ready connections", |counts| counts.handshakes.len() == 2);
    let strangers = Authority::new("Strangers");
    let mallory = strangers.client(&ClientSpec::new("mallory"));
    for _ in 0..5 {
        let client = ClientTls::trusting(&pki.ca).identity(&mallory).build();
        let got = refusal(gateway.addr("edge"), NAME, &client);
        assert_eq!(got, Refusal::Alert(AlertDescription::UnknownCA));
    }
    gateway.settled();
    let counts = upstream.counts();
    assert_eq!((counts.bytes, counts.closed, counts.accepted), (0, 0, 2));
}

//! The record layer against rustls, in both roles and over all three suites: the same handshake,
//! one side converted to our opener and sealer, the other left to rustls.
//!
//! `ours.rs` is our side of a connection, `judge.rs` compares verdicts on records that rustls would
//! never send; the fuzz target `record` shares both.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers are tests too")]

mod judge;
mod ours;

use portcullis::core::record::{KeyUpdateRequest, Role};
use portcullis_kit::unbuffered::{Action, Client, Configs, Connection, Server, Unbuffered};
use proptest::prelude::*;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

use ours::{Ours, Tickets};

const SUITES: [SupportedCipherSuite; 3] =
    [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];

#[derive(Debug, Clone)]
enum Step {
    TheySend(usize),
    WeSend(usize),
    TheyUpdate,
    WeUpdate(KeyUpdateRequest),
}

fn step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![1usize..100, 1usize..3000, 16_000usize..40_000];
    prop_oneof![
        4 => length().prop_map(Step::TheySend),
        4 => length().prop_map(Step::WeSend),
        1 => Just(Step::TheyUpdate),
        1 => Just(Step::WeUpdate(KeyUpdateRequest::Requested)),
        1 => Just(Step::WeUpdate(KeyUpdateRequest::NotRequested)),
    ]
}

/// Bytes that tell when one is lost, doubled or moved.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..=250).cycle().skip(seed * 7).take(length).collect()
}

/// Plays `steps` with the bytes cut into `cuts`, then closes both directions.
fn play<C: Connection, O: Connection>(
    mut theirs: Unbuffered<C>,
    mut ours: Ours<O::Data>,
    steps: &[Step],
    cuts: &[usize],
) -> Ours<O::Data>
where
    Ours<O::Data>: Tickets,
{
    let (mut to_them, mut to_us) = (Vec::new(), Vec::new());
    for (seed, step) in steps.iter().enumerate() {
        match step {
            Step::TheySend(length) => {
                let sent = bytes(seed, *length);
                theirs.run(Some(Action::Send(&sent))).unwrap();
                to_us.extend(sent);
            }
            Step::WeSend(length) => {
                let sent = bytes(seed, *length);
                ours.send(&sent);
                to_them.extend(sent);
            }
            Step::TheyUpdate => theirs.run(Some(Action::RefreshKeys)).unwrap(),
            Step::WeUpdate(request) => ours.update_keys(*request),
        }
        exchange(&mut theirs, &mut ours, cuts);
    }
    theirs.run(Some(Action::Close)).unwrap();
    ours.close();
    exchange(&mut theirs, &mut ours, cuts);
    assert!(theirs.peer_closed && ours.peer_closed);
    assert_eq!(theirs.received, to_them);
    assert_eq!(ours.received, to_us);
    ours
}

fn exchange<C: Connection, D>(theirs: &mut Unbuffered<C>, ours: &mut Ours<D>, cuts: &[usize])
where
    Ours<D>: Tickets,
{
    // Each turn answers the one before; the second may carry replies to key updates.
    for _ in 0..4 {
        for part in split(&std::mem::take(&mut theirs.outgoing), cuts) {
            ours.incoming.extend(part);
            ours.run().unwrap();
        }
        for part in split(&std::mem::take(&mut ours.outgoing), cuts) {
            theirs.incoming.extend(part);
            theirs.run(None).unwrap();
        }
    }
}

fn split(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at(rest.len().min(*cut));
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

fn convert<C: Connection>(peer: Unbuffered<C>, role: Role) -> Ours<C::Data> {
    let (secrets, kernel) = peer.connection.into_kernel().unwrap();
    Ours::new(secrets, kernel, role, peer.incoming)
}

fn as_server(suite: SupportedCipherSuite, steps: &[Step], cuts: &[usize]) {
    let (mut client, mut server): (Client, Server) = Configs::new(suite).handshake();
    client.incoming.append(&mut server.outgoing);
    play::<_, rustls::server::UnbufferedServerConnection>(
        client,
        convert(server, Role::Server),
        steps,
        cuts,
    );
}

fn as_client(suite: SupportedCipherSuite, steps: &[Step], cuts: &[usize]) {
    let (client, server) = Configs::new(suite).handshake();
    let ours = play::<_, rustls::client::UnbufferedClientConnection>(
        server,
        convert(client, Role::Client),
        steps,
        cuts,
    );
    assert_eq!(ours.tickets, 2, "rustls sends two tickets behind its handshake");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_traffic_agrees_with_rustls_in_both_roles(
        steps in proptest::collection::vec(step(), 0..25),
        cuts in proptest::collection::vec(1usize..20_000, 1..20),
    ) {
        for suite in SUITES {
            as_server(suite, &steps, &cuts);
            as_client(suite, &steps, &cuts);
        }
    }

    #[test]
    fn verdicts_agree_with_rustls_on_random_records(
        scripts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 20),
    ) {
        for script in scripts {
            judge::judge(&script);
        }
    }
}

/// Found by the fuzz target: a key update among empty records, or one of those among key updates, has rustls count
/// anew, and us not.
#[test]
fn our_caps_count_all_that_comes_between_two_records_of_data() {
    let (empty, update, data) = ([0, 0], [15, 0], [0, 1, 7]);
    let updates = [&empty.repeat(30)[..], &update, &empty.repeat(3), &data].concat();
    let empties = [&update.repeat(20)[..], &empty, &update.repeat(20), &data].concat();
    for script in [updates, empties] {
        for role in [0, 1] {
            judge::judge(&[&[role][..], &script].concat());
        }
    }
}

#[test]
fn bytes_one_by_one_agree_with_rustls() {
    let steps = [Step::TheySend(300), Step::TheyUpdate, Step::WeSend(300), Step::TheySend(10)];
    as_server(TLS13_AES_128_GCM_SHA256, &steps, &[1]);
    as_client(TLS13_AES_128_GCM_SHA256, &steps, &[1]);
}

#[test]
fn our_key_update_before_the_limit_is_accepted_by_rustls() {
    for suite in SUITES {
        let (mut client, mut server) = Configs::new(suite).handshake();
        client.incoming.append(&mut server.outgoing);
        let mut ours = convert(server, Role::Server).with_key_update_after(3);
        let mut sent = Vec::new();
        for seed in 0..40 {
            let part = bytes(seed, 1000);
            ours.send(&part);
            sent.extend(part);
        }
        assert!(ours.key_updates_sent >= 10, "{}", ours.key_updates_sent);
        exchange(&mut client, &mut ours, &[700]);
        assert_eq!(client.received, sent);
    }
}

#[test]
fn rustls_understands_our_fatal_alert() {
    let (mut client, mut server) = Configs::new(TLS13_AES_128_GCM_SHA256).handshake();
    client.incoming.append(&mut server.outgoing);
    let mut ours = convert(server, Role::Server);
    ours.fail(20);
    client.incoming.append(&mut ours.outgoing);
    let error = client.run(None).unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

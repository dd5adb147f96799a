//! Records as published in RFC 8448 §3 (TLS_AES_128_GCM_SHA256), and the same on the way out.

use super::*;

#[test]
fn rfc_8448_client_records_open_and_seal() {
    let keys = || keys_of(CLIENT_KEY, CLIENT_IV);
    check(keys, Role::Server, 0, &bytes(CLIENT_DATA), &bytes(CLIENT_CLOSE));
}

#[test]
fn rfc_8448_server_records_open_and_seal() {
    // The server's record 0 is its NewSessionTicket.
    let keys = || keys_of(SERVER_KEY, SERVER_IV);
    check(keys, Role::Client, 1, &bytes(SERVER_DATA), &bytes(SERVER_CLOSE));
}

fn check(keys: impl Fn() -> TrafficKeys, role: Role, first: u64, data: &[u8], close: &[u8]) {
    let plaintext: Vec<u8> = (0..50).collect();
    let mut receiver = Receiver::new(role);
    receiver.opener = Opener::new(keys(), first, role, OpenLimits::default());
    assert_eq!(receiver.open(data), Ok(Opened::Data { consumed: data.len(), len: 50 }));
    assert_eq!(receiver.out[..50], plaintext);
    assert_eq!(receiver.event(close), Ok(Some(Event::CloseNotify)));

    let mut sealer = Sealer::new(keys(), first);
    let mut out = [0; 100];
    let length = sealer.seal_from(&plaintext, &mut out).unwrap();
    assert_eq!(out[..length], *data);
    let length = sealer.seal_close_notify(&mut out).unwrap();
    assert_eq!(out[..length], *close);
}

fn keys_of(key: &str, iv: &str) -> TrafficKeys {
    TrafficKeys::new(Aead::Aes128Gcm, &bytes(key), &bytes(iv).try_into().unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

const CLIENT_KEY: &str = "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51";
const CLIENT_IV: &str = "5b 78 92 3d ee 08 57 90 33 e5 23 d9";
const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea
    42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2
    97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
const CLIENT_CLOSE: &str =
    "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";

const SERVER_KEY: &str = "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56";
const SERVER_IV: &str = "cf 78 2b 88 dd 83 54 9a ad f1 e9 84";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc
    32 25 d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2
    1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
const SERVER_CLOSE: &str =
    "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

//! Whether a client takes certificates (RFC 7250), by table.

use super::*;

#[test]
fn only_who_leaves_x509_out_takes_raw_keys_only() {
    for kind in [19, 20] {
        for (types, expected) in [
            (&[1, 2][..], true),
            (&[2, 2, 0], false),
            (&[2, 2, 9], true),
            (&[1, 0], false),
            (&[1, 1], false),
        ] {
            let wire = Sample::new().with(kind, types).wire();
            let mut joined = HelloBuffer::new();
            let Peek::Hello(hello) = peek(&wire, &mut joined) else { panic!("{types:?}") };
            assert_eq!(hello.takes_raw_keys_only(), expected, "{kind} {types:?}");
        }
    }
}

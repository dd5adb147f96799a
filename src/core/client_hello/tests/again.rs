//! What a second hello may change, by table.

use super::*;

#[test]
fn a_second_hello_is_the_first_but_for_what_may_change() {
    let alpn = |name: &[u8]| vec16(&vec8(name));
    let share = |group: u8| vec16(&[&[0, group][..], &vec16(&[9; 32])].concat());
    let first = Sample::new().with(16, alpn(b"pg")).with(51, share(29));
    let changed = |second: &Sample| {
        let (mut joined, mut joined_again) = (HelloBuffer::new(), HelloBuffer::new());
        let (first, second) = (first.wire(), second.wire());
        let (Peek::Hello(first), Peek::Hello(second)) =
            (peek(&first, &mut joined), peek(&second, &mut joined_again))
        else {
            panic!("hellos");
        };
        first.changed_by(&second).map(|what| what.to_string())
    };
    let mut other_order = first.clone();
    other_order.extensions.reverse();
    other_order.extensions[0].1 = share(24);
    let taken = [
        first.clone(),
        other_order,
        first.clone().with(44, vec16(b"cookie")).with(21, [0; 9]),
        Sample::new().with(16, alpn(b"pg")),
    ];
    for second in taken {
        assert_eq!(changed(&second), None);
    }
    let change = |change: &dyn Fn(&mut Sample)| {
        let mut second = first.clone();
        change(&mut second);
        changed(&second).unwrap_or_default()
    };
    assert_eq!(change(&|it| it.legacy_version = 0x0302), "legacy_version");
    assert_eq!(change(&|it| it.session_id.clear()), "legacy_session_id");
    assert_eq!(change(&|it| it.suites.truncate(2)), "cipher_suites");
    assert_eq!(change(&|it| it.compression.push(1)), "legacy_compression_methods");
    assert_eq!(change(&|it| it.extensions[3].1 = alpn(b"h2")), "extension 16");
    assert_eq!(change(&|it| drop(it.extensions.remove(3))), "extension 16");
    assert_eq!(change(&|it| it.extensions.push((0x1234, vec![]))), "extension 4660");
}

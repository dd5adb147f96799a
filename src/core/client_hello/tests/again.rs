//! What a second hello may change, by table.

use super::*;

#[test]
fn a_second_hello_is_the_first_but_for_what_may_change() {
    let alpn = |name: &[u8]| vec16(&vec8(name));
    let entry = |group: u8| [&[0, group][..], &vec16(&[9; 32])].concat();
    let share = |group: u8| vec16(&entry(group));
    let first = Sample::new().with(16, alpn(b"pg")).with(51, share(29));
    let mut other_order = first.clone();
    other_order.extensions.reverse();
    other_order.extensions[0].1 = share(24);
    let taken = [
        first.clone(),
        other_order,
        first.clone().with(21, [0; 9]),
        // rustls says what it lacks.
        Sample::new().with(16, alpn(b"pg")),
    ];
    for second in taken {
        assert_eq!(changed(&first, &second), None);
    }
    let change = |change: &dyn Fn(&mut Sample)| {
        let mut second = first.clone();
        change(&mut second);
        changed(&first, &second).unwrap_or_default()
    };
    assert_eq!(change(&|it| it.legacy_version = 0x0302), "legacy_version");
    assert_eq!(change(&|it| it.session_id.clear()), "legacy_session_id");
    assert_eq!(change(&|it| it.suites.truncate(2)), "cipher_suites");
    assert_eq!(change(&|it| it.compression.push(1)), "legacy_compression_methods");
    assert_eq!(change(&|it| it.extensions[3].1 = alpn(b"h2")), "extension 16");
    assert_eq!(change(&|it| drop(it.extensions.remove(3))), "extension 16");
    assert_eq!(change(&|it| it.extensions.push((0x1234, vec![]))), "extension 4660");
    assert_eq!(change(&|it| it.extensions[0].1 = sni(b"A.example")), "server_name");
    for shares in [vec![], [entry(24), entry(29)].concat(), [entry(24), entry(24)].concat()] {
        assert_eq!(change(&|it| it.extensions[4].1 = vec16(&shares)), "extension 51");
    }
}

/// RFC 8446 §4.1.2, RFC 9849 §6.1.5 and §6.2.1.
#[test]
fn what_may_change_in_a_second_hello_may_not_begin_there() {
    let first = Sample::new().with(51, vec16(&[]));
    let asked = Sample::new().with(51, vec16(&[&[0, 24][..], &vec16(&[9; 32])].concat()));
    let key = |age: u8| {
        let identity = [&vec16(b"ticket")[..], &[0, 0, 0, age]].concat();
        [vec16(&identity), vec16(&vec8(&[age; 32]))].concat()
    };
    let ech = |payload: u8| [&[0, 0, 1, 0, 1, 7, 0, 0][..], &vec16(&[payload; 3])].concat();
    let cookie = vec16(b"cookie");
    type Extensions<'a> = &'a [(u16, Vec<u8>)];
    let cases: [(Extensions<'_>, Extensions<'_>, Option<&str>); 10] = [
        (&[], &[(44, cookie.clone())], Some("extension 44")),
        (&[(44, cookie.clone())], &[(44, cookie.clone())], Some("extension 44")),
        (&[(44, cookie)], &[], Some("extension 44")),
        (&[], &[(41, key(1))], Some("extension 41")),
        (&[(41, key(1))], &[(41, key(2))], None),
        (&[(41, key(1))], &[], None),
        (&[], &[(0xfe0d, ech(1))], Some("extension 65037")),
        (&[(0xfe0d, ech(1))], &[], Some("extension 65037")),
        (&[(0xfe0d, ech(1))], &[(0xfe0d, ech(2))], None),
        (&[(42, vec![])], &[], None),
    ];
    for (before, after, expected) in cases {
        let with = |hello: &Sample, more: Extensions<'_>| {
            let mut hello = hello.clone();
            hello.extensions.extend_from_slice(more);
            hello
        };
        let (first, second) = (with(&first, before), with(&asked, after));
        assert_eq!(changed(&first, &second).as_deref(), expected, "{before:?} {after:?}");
    }
}

fn changed(first: &Sample, second: &Sample) -> Option<String> {
    let (mut joined, mut joined_again) = (HelloBuffer::new(), HelloBuffer::new());
    let (first, second) = (first.wire(), second.wire());
    let (Peek::Hello(first), Peek::Hello(second)) =
        (peek(&first, &mut joined), peek(&second, &mut joined_again))
    else {
        panic!("hellos");
    };
    first.changed_by(&second).map(|what| what.to_string())
}

//! Tables of what a rule about URIs takes and refuses, and properties of all rules.

use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> UriPattern {
    UriPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> UriError {
    UriPattern::parse(text).expect_err(text)
}

#[test]
fn a_star_stays_within_its_segment_and_two_cross_segments() {
    let orders = "spiffe://example.org/ns/orders/**";
    let service = "spiffe://example.org/ns/*/sa/web-*";
    for (pattern, uri, matches) in [
        (orders, "spiffe://example.org/ns/orders/sa/a", true),
        (orders, "spiffe://example.org/ns/orders/a", true),
        (orders, "spiffe://example.org/ns/orders", true),
        (orders, "spiffe://example.org/ns/ordersx/a", false),
        (orders, "spiffe://example.org/ns/Orders/a", false),
        (orders, "spiffe://example.org/ns", false),
        (orders, "spiffe://example.com/ns/orders/a", false),
        (orders, "spiffe://example.org.evil/ns/orders/a", false),
        (orders, "spiffe://evil/example.org/ns/orders/a", false),
        (orders, "https://example.org/ns/orders/a", false),
        (service, "spiffe://example.org/ns/x/sa/web-1", true),
        (service, "spiffe://example.org/ns/x/sa/web-", false),
        (service, "spiffe://example.org/ns/x/y/sa/web-1", false),
        (service, "spiffe://example.org/ns/x/sa/web-1/y", false),
        (service, "spiffe://example.org/ns/sa/web-1", false),
        ("spiffe://a/**/admin", "spiffe://a/admin", true),
        ("spiffe://a/**/admin", "spiffe://a/x/admin/y/admin", true),
        ("spiffe://a/**/admin", "spiffe://a/x/administrator", false),
        ("spiffe://a/**/b/*/c/**/d", "spiffe://a/b/b/1/c/x/d/d", true),
        ("spiffe://a/**/b/*/c/**/d", "spiffe://a/b/1/2/c/d", false),
        ("spiffe://a/*", "spiffe://a/b", true),
        ("spiffe://a/*", "spiffe://a/b/c", false),
        ("https://Example.org/Path", "HTTPS://EXAMPLE.ORG/Path", true),
        ("https://example.org/Path", "https://example.org/path", false),
        ("https://example.org", "https://example.org", true),
        ("https://example.org", "https://example.org/", false),
        ("https://example.org/", "https://example.org/", true),
        ("https://example.org/**", "https://example.org", true),
        ("https://example.org/**", "https://example.org/", false),
        ("https://example.org/**", "https://example.org/a/b", true),
        ("https://example.org/**", "https://example.org/a/", false),
        ("https://example.org/**/", "https://example.org/a/", true),
        ("https://example.org/*/", "https://example.org//", false),
        ("https://example.org/a", "https://example.org:443/a", false),
        ("https://example.org:8443/a", "https://example.org:8443/a", true),
        ("https://[2001:db8::1]/a", "https://[2001:DB8::1]/a", true),
        ("urn:uuid:*", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", true),
        ("urn:uuid:*", "urn:uuid:", false),
        ("urn:uuid:*", "urn:uuid:a/b", false),
        ("urn:a", "urn:/a", false),
        ("urn:/a", "urn:/a", true),
        ("urn:a/**", "urn://a/b", false),
    ] {
        assert_eq!(rule(pattern).matches(uri), matches, "{pattern} on {uri}");
    }
}

#[test]
fn names_that_can_be_read_in_two_ways_match_no_rule() {
    for uri in [
        "spiffe://example.org/ns/orders/../admin",
        "spiffe://example.org/ns/orders/..",
        "spiffe://example.org/ns/orders/./a",
        "spiffe://example.org/ns/orders/%2e%2e/admin",
        "spiffe://example.org/ns/orders/a%2Fb",
        "spiffe://example.org/ns/orders/%61",
        "spiffe://example.org/ns/orders//a",
        "spiffe://example.org//ns/orders/a",
        "spiffe://example.org/ns/orders/a/",
        "spiffe://example.org/ns/orders/a?b",
        "spiffe://example.org/ns/orders/a#b",
        "spiffe://example.org?/ns/orders/a",
        "spiffe://example.org#/ns/orders/a",
        "spiffe://example.org/ns/orders/a\\b",
        "spiffe://example.org/ns/orders/a\0",
        "spiffe://example.org/ns/orders/ä",
        "spiffe://example.org/ns/orders/a b",
        "spiffe://example.org/ns/orders/*",
        "spiffe://example.org/ns/orders/a:b",
        "spiffe://example.org/",
        "spiffe://example.org",
        "spiffe://user@example.org/ns/orders/a",
        "spiffe://example.org:443/ns/orders/a",
        "spiffe://EXAMPLE.org/ns/orders/a",
        "SPIFFE://example.org/ns/orders/a",
        "spiffe:/example.org/ns/orders/a",
        "spiffe:example.org/ns/orders/a",
        "spiffe:///ns/orders/a",
        " spiffe://example.org/ns/orders/a",
        "//example.org/ns/orders/a",
        "",
        ":",
    ] {
        for pattern in [
            "spiffe://example.org/**",
            "spiffe://example.org/*",
            "spiffe://example.org/ns/orders/**",
        ] {
            assert!(!rule(pattern).matches(uri), "{pattern} took {uri}");
        }
    }
    let open = rule("https://example.org/**");
    for path in ["a/../b", "%2e%2e", "a//b", "a?b", "a#b", "a\\b", "a b", ".", "ä", "a\n"] {
        assert!(!open.matches(&format!("https://example.org/{path}")), "{path}");
    }
}

#[test]
fn a_name_longer_than_the_standard_allows_matches_nothing() {
    let base = "spiffe://example.org/";
    let longest = format!("{base}{}", "a".repeat(URI_BYTES_MAX - base.len()));
    assert!(rule("spiffe://example.org/**").matches(&longest));
    assert!(!rule("spiffe://example.org/**").matches(&format!("{longest}a")));
    assert_eq!(error(&format!("{longest}a")), UriError::TooLong { bytes: URI_BYTES_MAX + 1 });
    assert!(rule(&format!("spiffe://{}/a", "d".repeat(255))).is_spiffe());
    let domain = UriError::TrustDomainTooLong { bytes: 256 };
    assert_eq!(error(&format!("spiffe://{}/a", "d".repeat(256))), domain);
}

#[test]
fn rules_that_say_something_doubtful_are_refused_with_the_reason() {
    for (text, expected) in [
        ("", UriError::Scheme),
        ("example.org/a", UriError::Scheme),
        ("*://example.org/a", UriError::Scheme),
        ("1a://example.org", UriError::Scheme),
        ("://a", UriError::Scheme),
        ("https://", UriError::NoAuthority),
        ("file:///a", UriError::NoAuthority),
        ("urn:", UriError::NoPath),
        ("https://*.example.org/a", UriError::AuthorityWildcard),
        ("spiffe://*/a", UriError::AuthorityWildcard),
        ("spiffe://**", UriError::AuthorityWildcard),
        ("https://me@example.org/", UriError::User),
        ("https://exämple.org/", UriError::AuthorityCharacter { character: 'ä' }),
        ("https://a%2eb/", UriError::Encoded),
        ("https://a/%2e", UriError::Encoded),
        ("https://a/?b", UriError::Query { character: '?' }),
        ("https://a?b", UriError::Query { character: '?' }),
        ("https://a/b#c", UriError::Query { character: '#' }),
        ("https://a/b c", UriError::PathCharacter { character: ' ' }),
        ("https://a/b\\c", UriError::PathCharacter { character: '\\' }),
        ("https://a//b", UriError::EmptySegment),
        ("https://a//", UriError::EmptySegment),
        ("https://a/./b", UriError::DotSegment),
        ("https://a/b/..", UriError::DotSegment),
        ("https://a/b**", UriError::DoubleStar),
        ("https://a/***", UriError::DoubleStar),
        ("SPIFFE://a/b", UriError::SpiffeScheme),
        ("spiffe:a", UriError::SpiffeScheme),
        ("spiffe://A/b", UriError::TrustDomain { character: 'A' }),
        ("spiffe://a:1/b", UriError::TrustDomain { character: ':' }),
        ("spiffe://a/b:c", UriError::SpiffeCharacter { character: ':' }),
        ("spiffe://a/b/", UriError::SpiffeSlash),
        ("spiffe://a/", UriError::SpiffeSlash),
        ("spiffe://a", UriError::SpiffeNoPath),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_rule_is_shown_as_written_but_for_the_case_of_its_host() {
    for (text, shown) in [
        ("HTTPS://Example.ORG:1/A/**", "https://example.org:1/A/**"),
        ("URN:Uuid:A*", "urn:Uuid:A*"),
        ("spiffe://a/b-*/**/c", "spiffe://a/b-*/**/c"),
    ] {
        assert_eq!(rule(text).to_string(), shown);
        assert_eq!(rule(shown), rule(text));
    }
}

fn segments() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zA-Z0-9_-]{1,4}", 1..6)
}

/// The definition, in exponential time.
fn by_definition(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|taken| by_definition(rest, &path[taken..])),
        ([first, rest @ ..], [segment, others @ ..]) => {
            (*first == "*" || first == segment) && by_definition(rest, others)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_rule_takes_its_own_literal_and_no_longer_one(path in segments()) {
        let uri = format!("spiffe://example.org/{}", path.join("/"));
        prop_assert!(rule(&uri).matches(&uri));
        let longer = format!("{uri}/x");
        prop_assert!(!rule(&uri).matches(&longer));
        let suffixed = format!("{uri}x");
        prop_assert!(!rule(&uri).matches(&suffixed));
    }

    #[test]
    fn a_star_never_crosses_a_slash(path in segments(), at in any::<prop::sample::Index>()) {
        let mut pattern = path.clone();
        pattern[at.index(path.len())] = "*".to_owned();
        let pattern = rule(&format!("spiffe://example.org/{}", pattern.join("/")));
        let uri = |path: &[String]| format!("spiffe://example.org/{}", path.join("/"));
        prop_assert!(pattern.matches(&uri(&path)));
        let mut split = path.clone();
        split[at.index(path.len())] = "a/b".to_owned();
        prop_assert!(!pattern.matches(&uri(&split)));
    }

    #[test]
    fn segments_match_as_defined(
        pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..7),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..8),
    ) {
        let uri = format!("spiffe://d/{}", path.join("/"));
        let found = rule(&format!("spiffe://d/{}", pattern.join("/"))).matches(&uri);
        prop_assert_eq!(found, by_definition(&pattern, &path), "{:?} on {}", pattern, uri);
    }

    #[test]
    fn any_text_is_a_rule_or_refused_and_any_name_matches_or_not(text in "(?s).{0,80}", name in "(?s).{0,80}") {
        if let Ok(pattern) = UriPattern::parse(&text) {
            pattern.matches(&name);
            prop_assert_eq!(UriPattern::parse(&pattern.to_string()), Ok(pattern));
        }
        // The widest rule of a domain takes only what is a SPIFFE id of it in normal form.
        let uri = format!("spiffe://example.org/{name}");
        if rule("spiffe://example.org/**").matches(&uri) {
            let normal = |segment: &str| {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                !segment.is_empty() && segment.chars().all(allowed) && segment != "." && segment != ".."
            };
            prop_assert!(name.split('/').all(normal), "{}", uri);
        }
    }
}

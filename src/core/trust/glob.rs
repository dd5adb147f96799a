//! Text in which `*` stands for one character or more: a segment of a URI, a common name.
//!
//! Knows nothing of segments; who calls cuts the text before it comes here. Next: `uri`.

/// Never without a piece; between two pieces stands a `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Glob(Box<[Box<str>]>);

impl Glob {
    /// Whoever calls has refused `**`.
    pub(super) fn new(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    /// Leftmost matches are enough: what a piece leaves over can only grow by matching it earlier.
    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, others @ ..] = &*self.0 else { return false };
        let Some((last, between)) = others.split_last() else { return **first == *text };
        let ends = text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last));
        let Some(mut left) = ends else { return false };
        for piece in between {
            let mut taken = left.chars();
            if taken.next().is_none() {
                return false;
            }
            let Some((_, after)) = taken.as_str().split_once(&**piece) else { return false };
            left = after;
        }
        !left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_one_character_or_more() {
        for (glob, text, matches) in [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("*", "a", true),
            ("*", "ü", true),
            ("a*", "a", false),
            ("a*", "ab", true),
            ("*a", "a", false),
            ("*a", "aa", true),
            ("a*a", "aa", false),
            ("a*a", "aaa", true),
            ("*b*", "b", false),
            ("*b*", "ab", false),
            ("*b*", "abc", true),
            ("*b*", "bbb", true),
            ("*bb*", "abab", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "abc", false),
            ("*ü*", "xüy", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), matches, "{glob} on {text}");
        }
    }

    /// The definition, in exponential time.
    fn by_definition(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], []) => true,
            ([b'*', rest @ ..], [_, ..]) => {
                (1..=text.len()).any(|taken| by_definition(rest, &text[taken..]))
            }
            ([first, rest @ ..], [byte, others @ ..]) if first == byte => {
                by_definition(rest, others)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn leftmost_is_as_good_as_any(glob in "(\\*?[ab]{1,2}){0,4}\\*?", text in "[ab]{0,9}") {
            let expected = by_definition(glob.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::new(&glob).matches(&text), expected);
        }
    }
}

//! "Did you mean": the nearest of the names that would have been right.
//!
//! Pure; `node` and `convert` put its answer into `Problem::help`.

/// How many names a help text lists before it says how many more there are.
const LISTED_MAX: usize = 24;
/// Names longer than this are not compared: the table of distances grows with the square.
const COMPARED_CHARS_MAX: usize = 64;

/// Help for a name that is not among `allowed`: the nearest one, or the list of all.
///
/// `what` says what the list holds, as in "keys allowed here".
pub(super) fn help<'a>(name: &str, allowed: impl Iterator<Item = &'a str>, what: &str) -> String {
    let allowed: Vec<&str> = allowed.collect();
    if allowed.is_empty() {
        return format!("{what}: none");
    }
    match nearest(name, &allowed) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{what}: {}", list(&allowed)),
    }
}

/// "`a`, `b`, `c`", shortened when it is long.
pub(super) fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED_MAX).map(|n| format!("`{n}`")).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// The candidate that is another name of the same curve, or near enough to be a slip of the finger: at most
/// a third of the name.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if let Some(curve) = curve(name)
        && let Some(same) = candidates.iter().find(|one| self::curve(one) == Some(curve))
    {
        return Some(same);
    }
    let folded = name.to_lowercase().replace('-', "_");
    let chars = folded.chars().count();
    if chars > COMPARED_CHARS_MAX {
        return None;
    }
    let distance_max = chars.div_ceil(3).clamp(1, 4);
    candidates
        .iter()
        .filter(|candidate| candidate.len() <= COMPARED_CHARS_MAX)
        .map(|candidate| (distance(&folded, &candidate.replace('-', "_")), *candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A curve of NIST by any of its names: P-256 of FIPS 186 is secp256r1 of SEC 2 and prime256v1 of OpenSSL.
fn curve(name: &str) -> Option<&'static str> {
    let plain = name.to_lowercase().replace(['-', '_', ' '], "");
    let plain = plain.strip_prefix("ecdsa").unwrap_or(&plain);
    let plain = plain.strip_prefix("nist").unwrap_or(plain);
    match plain {
        "p256" | "256" | "secp256r1" | "prime256v1" => Some("p256"),
        "p384" | "384" | "secp384r1" => Some("p384"),
        "p521" | "521" | "secp521r1" => Some("p521"),
        _ => None,
    }
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("adress", "address", 1),
            ("clutser", "cluster", 1),
            ("timeout", "timeouts", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} → {b}");
            assert_eq!(distance(b, a), edits, "{b} → {a}");
        }
    }

    #[test]
    fn far_names_list_what_is_allowed() {
        let allowed = ["address", "chain"];
        assert_eq!(help("adress", allowed.into_iter(), "keys"), "did you mean `address`?");
        assert_eq!(help("zzzzzz", allowed.into_iter(), "keys"), "keys: `address`, `chain`");
        assert_eq!(help("zzzzzz", [].into_iter(), "keys"), "keys: none");
        assert_eq!(
            help("Ready-Max", ["ready_max"].into_iter(), "keys"),
            "did you mean `ready_max`?"
        );
    }

    #[test]
    fn a_curve_is_known_by_all_its_names() {
        let groups = ["x25519", "secp256r1", "secp384r1"];
        let keys = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"];
        for (name, group, key) in [
            ("P-256", Some("secp256r1"), Some("ecdsa-p256")),
            ("p256", Some("secp256r1"), Some("ecdsa-p256")),
            ("prime256v1", Some("secp256r1"), Some("ecdsa-p256")),
            ("secp256r1", Some("secp256r1"), Some("ecdsa-p256")),
            ("ECDSA-P256", Some("secp256r1"), Some("ecdsa-p256")),
            ("ecdsa_secp384r1", Some("secp384r1"), Some("ecdsa-p384")),
            ("NIST P-384", Some("secp384r1"), Some("ecdsa-p384")),
            ("P-521", None, Some("ecdsa-p521")),
            ("secp256k1", Some("secp256r1"), None),
        ] {
            assert_eq!(nearest(name, &groups), group, "{name}");
            assert_eq!(nearest(name, &keys), key, "{name}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..30).map(|i| format!("name-of-{i:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(list(&names).ends_with("and 6 more"));
        assert!(help(&"x".repeat(1_000), names.into_iter(), "names").starts_with("names: "));
    }
}

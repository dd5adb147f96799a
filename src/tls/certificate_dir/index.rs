//! The names of a `certificate_dir`, from the names of its files alone: nothing is opened.
//!
//! A pair is `NAME.crt` with `NAME.key`, one file `NAME.pem` with both, or a directory `NAME` with
//! `tls.crt` and `tls.key` (as Kubernetes writes a secret). `NAME` is a DNS name; a wildcard is written
//! `_wildcard.example.com` or `*.example.com` and takes one label, as in a certificate (RFC 9525 §6.3).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::core::route::name_table::NameTable;
use crate::core::server_name::NamePattern;

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub is_directory: bool,
}

/// Which pair is for which name. A pair's number is its place in `pairs`.
#[derive(Debug, Default)]
pub(super) struct Index {
    pairs: Box<[Pair]>,
    exact: NameTable,
    /// By the name without `*.`.
    wildcards: NameTable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// What the files are named after, as it is written there.
    stem: Box<str>,
    layout: Layout,
}

/// How the files of a pair lie. The first is taken where a name has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    /// `NAME.crt` and `NAME.key`
    Split,
    /// `NAME.pem`
    Joined,
    /// `NAME/tls.crt` and `NAME/tls.key`
    Folder,
    /// One half of `Split`: perhaps it is just being replaced.
    Half,
}

/// The files of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Where a staple would lie.
    pub ocsp: PathBuf,
}

impl PairFiles {
    /// One that is there and no file.
    pub(super) fn irregular(&self) -> Option<&Path> {
        let is_irregular = |path: &&PathBuf| path.metadata().is_ok_and(|found| !found.is_file());
        [&self.chain, &self.key, &self.ocsp].into_iter().find(is_irregular).map(PathBuf::as_path)
    }
}

/// What is odd about a directory, and what to do about it.
pub(super) type Oddity = (String, &'static str);

impl Index {
    /// An index of `entries`, in whatever order, and what in them is taken for a mistake.
    pub(super) fn build(entries: impl Iterator<Item = Entry>) -> (Self, Vec<Oddity>) {
        let mut stems = HashMap::<String, Parts>::new();
        for entry in entries {
            if let Some((stem, part)) = part_of(&entry) {
                part.note(stems.entry(stem.to_owned()).or_default());
            }
        }
        let mut oddities = Vec::new();
        let mut pairs: Vec<Pair> = stems
            .into_iter()
            .filter_map(|(stem, parts)| pair(&stem, parts, &mut oddities))
            .collect();
        pairs.sort_unstable_by(|a, b| (a.layout, &a.stem).cmp(&(b.layout, &b.stem)));
        let mut names = BTreeMap::<NamePattern, u32>::new();
        let mut kept = Vec::<Pair>::with_capacity(pairs.len());
        for pair in pairs {
            // `pair` has made sure that it is one.
            let Ok(name) = pattern(&pair.stem) else { continue };
            let Ok(number) = u32::try_from(kept.len()) else { break };
            if let Some(first) = names.get(&name).and_then(|at| kept.get(*at as usize)) {
                let (first, second) = (first.file_name(), pair.file_name());
                let message = format!("{name} is there twice: {first} is served, {second} is not");
                oddities.push((message, "remove one of them"));
                continue;
            }
            names.insert(name, number);
            kept.push(pair);
        }
        oddities.sort_unstable();
        let table = |is_wanted: fn(&NamePattern) -> bool| {
            let wanted = names.iter().filter(|(name, _)| is_wanted(name));
            let wanted: Vec<_> = wanted.map(|(name, at)| (name.name().as_str(), *at)).collect();
            NameTable::build(&wanted).unwrap_or_default()
        };
        let exact = table(|name| matches!(name, NamePattern::Exact(_)));
        let wildcards = table(|name| matches!(name, NamePattern::Below(_)));
        (Self { pairs: kept.into(), exact, wildcards }, oddities)
    }

    /// The pair for a normalised name: that of the name itself, else that of its wildcard.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let below = || name.split_once('.').and_then(|(_, parent)| self.wildcards.find(parent));
        self.exact.find(name).or_else(below)
    }

    /// The number of a pair that lies as `pair` does.
    pub(super) fn find_same(&self, pair: &Pair) -> Option<u32> {
        let number = match pattern(&pair.stem).ok()? {
            NamePattern::Exact(name) => self.exact.find(name.as_str()),
            NamePattern::Below(name) => self.wildcards.find(name.as_str()),
        }?;
        (self.pairs.get(number as usize)?.stem == pair.stem).then_some(number)
    }

    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }
}

impl Pair {
    pub(super) fn files(&self, directory: &Path) -> PairFiles {
        let stem = &self.stem;
        let file = |extension: &str| directory.join(format!("{stem}.{extension}"));
        match self.layout {
            Layout::Split | Layout::Half => {
                PairFiles { chain: file("crt"), key: file("key"), ocsp: file("ocsp") }
            }
            Layout::Joined => {
                PairFiles { chain: file("pem"), key: file("pem"), ocsp: file("ocsp") }
            }
            Layout::Folder => {
                let folder = directory.join(&**stem);
                let file = |name: &str| folder.join(name);
                PairFiles { chain: file("tls.crt"), key: file("tls.key"), ocsp: file("tls.ocsp") }
            }
        }
    }

    /// The file that names it, in the directory.
    pub(super) fn file_name(&self) -> String {
        let stem = &self.stem;
        match self.layout {
            Layout::Split | Layout::Half => format!("{stem}.crt"),
            Layout::Joined => format!("{stem}.pem"),
            Layout::Folder => format!("{stem}/tls.crt"),
        }
    }

    /// A name that a certificate of this pair should be for.
    pub(super) fn example(&self) -> Option<String> {
        Some(match pattern(&self.stem).ok()? {
            NamePattern::Exact(name) => name.as_str().to_owned(),
            NamePattern::Below(name) => format!("any.{name}"),
        })
    }
}

/// What was seen of one stem.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    chain: bool,
    key: bool,
    joined: bool,
    folder: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Chain,
    Key,
    Joined,
    Folder,
}

impl Part {
    fn note(self, parts: &mut Parts) {
        match self {
            Self::Chain => parts.chain = true,
            Self::Key => parts.key = true,
            Self::Joined => parts.joined = true,
            Self::Folder => parts.folder = true,
        }
    }
}

/// Which stem an entry belongs to; `None` for what is none of ours: staples are found beside their
/// pair, and other files are other people's.
fn part_of(entry: &Entry) -> Option<(&str, Part)> {
    let name = entry.name.as_str();
    // `..data` of Kubernetes, temporary files of whoever writes here.
    if name.starts_with('.') {
        return None;
    }
    if entry.is_directory {
        return pattern(name).is_ok().then_some((name, Part::Folder));
    }
    let (stem, extension) = name.rsplit_once('.')?;
    match extension {
        "crt" => Some((stem, Part::Chain)),
        "key" => Some((stem, Part::Key)),
        "pem" => Some((stem, Part::Joined)),
        _ => None,
    }
}

fn pair(stem: &str, parts: Parts, oddities: &mut Vec<Oddity>) -> Option<Pair> {
    let layout = match parts {
        Parts { chain: true, key: true, .. } => Layout::Split,
        Parts { joined: true, .. } => Layout::Joined,
        Parts { folder: true, .. } => Layout::Folder,
        Parts { .. } => Layout::Half,
    };
    if let Err(error) = pattern(stem) {
        let message = format!("no client can ask for {stem:?}: {error}");
        oddities.push((message, "name the files after the DNS name that they are for"));
        return None;
    }
    if layout == Layout::Half {
        let (there, missing) = if parts.chain { ("crt", "key") } else { ("key", "crt") };
        let message = format!("{stem}.{there} is there without {stem}.{missing}");
        oddities.push((message, "put both into the directory"));
    }
    Some(Pair { stem: stem.into(), layout })
}

/// The name that a stem stands for.
fn pattern(stem: &str) -> Result<NamePattern, String> {
    let name = match stem.strip_prefix(WILDCARD) {
        Some(parent) => format!("*.{parent}").parse(),
        None => stem.parse::<NamePattern>(),
    };
    name.map_err(|error| error.to_string())
}

/// Where a `*` in the name of a file is awkward.
const WILDCARD: &str = "_wildcard.";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(names: &[&str]) -> (Index, Vec<Oddity>) {
        Index::build(names.iter().map(|name| match name.strip_suffix('/') {
            Some(name) => Entry { name: name.to_owned(), is_directory: true },
            None => Entry { name: (*name).to_owned(), is_directory: false },
        }))
    }

    fn found(index: &Index, name: &str) -> Option<String> {
        index.find(name).map(|at| index.pairs()[at as usize].file_name())
    }

    #[test]
    fn a_name_is_found_by_its_file_and_else_by_the_wildcard_one_label_above() {
        let (index, oddities) = build(&[
            "a.example.com.crt",
            "a.example.com.key",
            "B.example.com.pem",
            "c.example.com/",
            "_wildcard.example.com.crt",
            "_wildcard.example.com.key",
            "*.example.org.pem",
            "..data/",
            ".d.example.com.pem",
            "README",
            "a.example.com.ocsp",
            "lost+found/",
        ]);
        assert_eq!(oddities, []);
        for (name, file) in [
            ("a.example.com", Some("a.example.com.crt")),
            ("b.example.com", Some("B.example.com.pem")),
            ("c.example.com", Some("c.example.com/tls.crt")),
            ("d.example.com", Some("_wildcard.example.com.crt")),
            ("x.example.org", Some("*.example.org.pem")),
            ("x.y.example.org", None),
            ("example.org", None),
            ("example.com", None),
            ("readme", None),
        ] {
            assert_eq!(found(&index, name).as_deref(), file, "{name}");
        }
        assert_eq!(index.pairs().len(), 5);
    }

    #[test]
    fn what_is_odd_is_told_and_the_rest_is_served() {
        let (index, oddities) = build(&[
            "half.test.key",
            "other.test.crt",
            "twice.test.pem",
            "Twice.test.pem",
            "both.test.crt",
            "both.test.key",
            "both.test.pem",
            "not a name.pem",
            "good.test.pem",
        ]);
        let messages: Vec<_> = oddities.iter().map(|(message, _)| message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "half.test.key is there without half.test.crt",
                "no client can ask for \"not a name\": byte 3 is 0x20: only letters, digits, '-', \
                 '_' and '.' may stand in a name",
                "other.test.crt is there without other.test.key",
                "twice.test is there twice: Twice.test.pem is served, twice.test.pem is not",
            ]
        );
        assert_eq!(found(&index, "good.test").as_deref(), Some("good.test.pem"));
        assert_eq!(found(&index, "both.test").as_deref(), Some("both.test.crt"));
        // It may only be half replaced: whoever has the old pair goes on with it.
        assert_eq!(found(&index, "half.test").as_deref(), Some("half.test.crt"));
    }

    #[test]
    fn files_lie_as_their_layout_says() {
        let (index, _) = build(&["a.test.crt", "a.test.key", "b.test.pem", "c.test/"]);
        let directory = Path::new("/certs");
        let shown = |name: &str| {
            let PairFiles { chain, key, ocsp } =
                index.pairs()[index.find(name).unwrap() as usize].files(directory);
            [chain, key, ocsp].map(|path| path.display().to_string())
        };
        assert_eq!(
            shown("a.test"),
            ["/certs/a.test.crt", "/certs/a.test.key", "/certs/a.test.ocsp"]
        );
        assert_eq!(
            shown("b.test"),
            ["/certs/b.test.pem", "/certs/b.test.pem", "/certs/b.test.ocsp"]
        );
        assert_eq!(
            shown("c.test"),
            ["/certs/c.test/tls.crt", "/certs/c.test/tls.key", "/certs/c.test/tls.ocsp"]
        );
    }

    #[test]
    fn a_pair_is_found_again_in_another_listing() {
        let (old, _) = build(&["a.test.pem", "*.b.test.pem", "gone.test.pem"]);
        let (new, _) = build(&["0.test.pem", "*.b.test.pem", "a.test.crt", "a.test.key"]);
        let again = |name: &str| new.find_same(&old.pairs()[old.find(name).unwrap() as usize]);
        assert_eq!(again("a.test"), new.find("a.test"));
        assert_eq!(again("x.b.test"), new.find("x.b.test"));
        assert_eq!(again("gone.test"), None);
    }

    proptest! {
        // threat 36
        #[test]
        fn any_listing_is_indexed_and_finds_nothing_but_its_own(
            names in proptest::collection::vec("[a-cA-C*_ ./é-]{0,6}(\\.test)?(\\.crt|\\.key|\\.pem|/)?", 0..40),
            asked in "[a-c]{1,2}(\\.[a-c])?(\\.test)?",
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (index, _) = build(&names);
            let wildcard = asked.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            if let Some(at) = index.find(&asked) {
                let stem = &index.pairs()[at as usize].stem;
                let is_wildcard = Some(&**stem) == wildcard.as_deref();
                prop_assert!(stem.eq_ignore_ascii_case(&asked) || is_wildcard
                    || wildcard.is_some_and(|name| name.eq_ignore_ascii_case(stem)));
            }
            for pair in index.pairs() {
                prop_assert!(index.find_same(pair).is_some());
            }
        }
    }
}

//! The suite as data: `cases.txt` is every case and what the standard says of it, `differences.txt`
//! why the gateway says something else of some.
//!
//! It knows neither files of the suite nor a gateway; `vectors` and `front` do.

use std::collections::BTreeMap;

/// A test case of the suite.
#[derive(Debug)]
pub(crate) struct Case {
    /// As `4.1.1`.
    pub(crate) number: &'static str,
    pub(crate) is_valid: bool,
    pub(crate) name: &'static str,
    /// Leaf first.
    pub(crate) certificates: Vec<&'static str>,
    pub(crate) lists: Vec<&'static str>,
}

/// A section of the suite: `4.1 Signature verification`.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// Why the gateway differs from the standard in some cases.
#[derive(Debug)]
pub(crate) struct Difference {
    /// A word, for a link.
    pub(crate) label: &'static str,
    pub(crate) cases: Vec<&'static str>,
    pub(crate) why: String,
}

pub(crate) fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in include_str!("cases.txt").lines() {
        if let Some(title) = line.strip_prefix("# ").filter(|title| title.starts_with("4.")) {
            sections.push(Section { title, cases: Vec::new() });
        } else if !line.is_empty() && !line.starts_with('#') {
            let section = sections.last_mut().expect("a section before its first case");
            section.cases.push(Case::parse(line));
        }
    }
    sections
}

/// In the order of the file, which is that of the page.
pub(crate) fn differences() -> Vec<Difference> {
    let blocks = include_str!("differences.txt").split("\n\n").map(str::trim);
    let blocks = blocks.filter(|block| !block.starts_with('#') && !block.is_empty());
    blocks.map(Difference::parse).collect()
}

impl Case {
    /// The name by which the gateway's configuration calls it.
    pub(crate) fn key(&self) -> String {
        format!("pkits_{}", self.number.replace('.', "_"))
    }

    pub(crate) fn server_name(&self) -> String {
        format!("t{}.{DOMAIN}", self.number.replace('.', "-"))
    }

    fn parse(line: &'static str) -> Self {
        let columns: Vec<_> = line.split(" | ").collect();
        let [number, verdict, name, certificates, lists] = columns[..] else {
            panic!("not five columns: {line}");
        };
        let is_valid = match verdict {
            "valid" => true,
            "invalid" => false,
            _ => panic!("neither valid nor invalid: {line}"),
        };
        Self {
            number,
            is_valid,
            name,
            certificates: certificates.split(' ').collect(),
            lists: lists.split(' ').collect(),
        }
    }
}

impl Difference {
    fn parse(block: &'static str) -> Self {
        let (head, why) = block.split_once('\n').expect("a head, then why");
        let (label, cases) = head.split_once(": ").expect("a label, then cases");
        Self { label, cases: cases.split(' ').collect(), why: why.replace('\n', " ") }
    }
}

/// Below it every case has a server name of its own.
pub(crate) const DOMAIN: &str = "pkits.test";

#[test]
fn every_case_of_the_suite_is_there_once_and_says_what_its_name_says() {
    let sections = sections();
    let counts: Vec<_> = sections.iter().map(|section| section.cases.len()).collect();
    assert_eq!(counts, [6, 8, 11, 21, 8, 17, 5, 20, 8, 14, 11, 10, 38, 35, 10, 2]);
    for (at, section) in sections.iter().enumerate() {
        assert!(section.title.starts_with(&format!("4.{} ", at + 1)), "{}", section.title);
        for (index, case) in section.cases.iter().enumerate() {
            assert_eq!(case.number, format!("4.{}.{}", at + 1, index + 1));
            let leaf = case.certificates[0];
            let test = format!("Test{}EE", index + 1);
            assert!(leaf.ends_with(&test), "{}: {leaf}", case.number);
            assert!(!case.is_valid || !leaf.starts_with("Invalid"), "{}", case.number);
            assert!(case.is_valid || !leaf.starts_with("Valid"), "{}", case.number);
        }
    }
}

#[test]
fn every_difference_is_of_a_case_and_explained_once() {
    let sections = sections();
    let numbers: Vec<_> =
        sections.iter().flat_map(|section| &section.cases).map(|case| case.number).collect();
    let mut explained = BTreeMap::new();
    for difference in differences() {
        for case in difference.cases {
            assert!(numbers.contains(&case), "{case} is no case");
            let other = explained.insert(case, difference.label);
            assert!(other.is_none(), "{case}: {} and {other:?}", difference.label);
        }
    }
}

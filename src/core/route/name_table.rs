//! A read-only table from server name to a small number, compact for 100,000 names and more.
//!
//! Names lie one after the other in one text; the slots of an open-addressed table hold where, and
//! the value. It knows no wildcards: `mod.rs` keeps one table for exact names and one for suffixes,
//! and reads that next.

/// Names to values. A name is 1–255 bytes of lower-case ASCII (`server_name` sees to that).
#[derive(Debug, Clone, Default)]
pub struct NameTable {
    seed: u64,
    len: usize,
    /// The shortest and the longest name: `find_parent` looks for no others.
    lengths: (usize, usize),
    slots: Box<[Slot]>,
    /// Each name as one byte of length and the name.
    text: Box<[u8]>,
}

/// Tenants may choose the names they register, so that names could be made to collide under a hash
/// everyone knows. `build` takes the first of `SEEDS_MAX` seeds under which no run of occupied
/// slots is long: to spoil that, a set of names would have to collide under all of them at once.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Upper half of the hash: compared before the text is touched.
    tag: u32,
    text_at: u32,
    /// `EMPTY` marks a free slot.
    value: u32,
}

impl NameTable {
    /// A table of distinct names. `None` when their text is beyond 4 GiB.
    pub fn build(names: &[(&str, u32)]) -> Option<Self> {
        let len = names.len();
        let mut text = Vec::new();
        let mut entries = Vec::with_capacity(len);
        for &(name, value) in names {
            let text_at = u32::try_from(text.len()).ok()?;
            text.push(u8::try_from(name.len()).ok()?);
            text.extend_from_slice(name.as_bytes());
            entries.push((text_at, value));
        }
        let text = text.into_boxed_slice();
        // Two thirds full: 18 bytes of slots a name, 1.5 probes on a hit and 5 on a miss.
        let slots = vec![FREE; len.saturating_mul(3).div_ceil(2)].into_boxed_slice();
        let shortest = names.iter().map(|(name, _)| name.len()).min().unwrap_or(0);
        let longest = names.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut table = NameTable { seed: 0, len, lengths: (shortest, longest), slots, text };
        for seed in 0..SEEDS_MAX {
            table.seed = seed;
            if table.fill(&entries) <= PROBES_MAX {
                break;
            }
        }
        Some(table)
    }

    /// Places all entries under the current seed; returns the most probes that any of them took.
    fn fill(&mut self, entries: &[(u32, u32)]) -> usize {
        self.slots.fill(FREE);
        let mut probes_most = 0;
        for &(text_at, value) in entries {
            let hash = self.hasher().whole(text_of(&self.text, text_at));
            let mut probes = 1;
            let mut at = home(hash, self.slots.len());
            while self.slots[at].value != EMPTY {
                at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
                probes += 1;
            }
            self.slots[at] = Slot { tag: tag(hash), text_at, value };
            probes_most = probes_most.max(probes);
        }
        probes_most
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        self.find_hashed(name.as_bytes(), self.hasher().whole(name.as_bytes()))
    }

    /// The longest name in the table that `name` is a subdomain of, at any depth. `name` itself is
    /// none of its subdomains. One pass over `name` from its end: a hash at each dot.
    pub(super) fn find_parent(&self, name: &str) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let name = name.as_bytes();
        let mut hasher = self.hasher();
        let mut found = None;
        for (at, &byte) in name.iter().enumerate().rev() {
            let length = name.len() - at - 1;
            if length > self.lengths.1 {
                break;
            }
            // A dot at 0 would leave an empty label in front: not a subdomain.
            if byte == b'.' && at > 0 && length >= self.lengths.0 {
                found = self.find_hashed(&name[at + 1..], hasher.finish()).or(found);
            }
            hasher.push(byte);
        }
        found
    }

    fn find_hashed(&self, name: &[u8], hash: u64) -> Option<u32> {
        let mut at = home(hash, self.slots.len());
        // A third of the slots is free, so a free one ends the search.
        loop {
            let slot = self.slots[at];
            if slot.value == EMPTY {
                return None;
            }
            if slot.tag == tag(hash) && text_of(&self.text, slot.text_at) == name {
                return Some(slot.value);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.text)
    }

    fn hasher(&self) -> Hasher {
        Hasher(FNV_OFFSET ^ self.seed.wrapping_mul(GOLDEN))
    }
}

/// FNV-1a over the bytes from last to first, so that one pass yields the hash of every suffix.
struct Hasher(u64);

impl Hasher {
    fn whole(mut self, name: &[u8]) -> u64 {
        for &byte in name.iter().rev() {
            self.push(byte);
        }
        self.finish()
    }

    fn push(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    }

    /// FNV leaves the upper bits poor for short names; both `home` and `tag` want good ones.
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(GOLDEN);
        mixed ^ (mixed >> 29)
    }
}

/// The slot where the search for `hash` starts: its lower half scaled to the number of slots.
fn home(hash: u64, slots: usize) -> usize {
    let scaled = (u128::from(hash & u64::from(u32::MAX)) * slots as u128) >> 32;
    usize::try_from(scaled).unwrap_or(0)
}

fn tag(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn text_of(text: &[u8], at: u32) -> &[u8] {
    let rest = text.get(at as usize..).unwrap_or_default();
    let Some((&length, rest)) = rest.split_first() else { return &[] };
    rest.get(..usize::from(length)).unwrap_or_default()
}

const EMPTY: u32 = u32::MAX;
const FREE: Slot = Slot { tag: 0, text_at: 0, value: EMPTY };
const SEEDS_MAX: u64 = 16;
/// A good hash stays below 60 with a million names at this filling.
const PROBES_MAX: usize = 128;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str]) -> NameTable {
        NameTable::build(&names.iter().copied().zip(0..).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_name_of_many_is_found_and_no_other() {
        let names: Vec<String> = (0..50_000).map(|i| format!("t{i}.example.com")).collect();
        let table =
            NameTable::build(&names.iter().map(String::as_str).zip(0..).collect::<Vec<_>>())
                .unwrap();
        for (name, value) in names.iter().zip(0..) {
            assert_eq!(table.find(name), Some(value));
        }
        assert_eq!(table.find("t50000.example.com"), None);
        assert_eq!(table.find(""), None);
        assert_eq!(table.seed, 0, "the first seed should do for ordinary names");
    }

    #[test]
    fn a_parent_is_the_longest_at_any_depth_and_never_the_name_itself() {
        let table = table(&["example.com", "b.example.com", "org"]);
        for (name, found) in [
            ("a.example.com", Some(0)),
            ("x.a.example.com", Some(0)),
            ("b.example.com", Some(0)),
            ("a.b.example.com", Some(1)),
            ("example.com", None),
            ("notexample.com", None),
            ("example.org", Some(2)),
            (".example.com", None),
            ("org", None),
            ("", None),
        ] {
            assert_eq!(table.find_parent(name), found, "{name}");
        }
    }

    #[test]
    fn names_made_to_collide_do_not_make_long_searches() {
        const NAMES: usize = 400;
        let hasher = || NameTable::default().hasher();
        let collides = |name: &String| home(hasher().whole(name.as_bytes()), NAMES * 3 / 2) == 7;
        let names = (0u32..).map(|i| format!("x{i}.example.com")).filter(collides);
        let names: Vec<String> = names.take(NAMES).collect();
        let mut table = table(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_ne!(table.seed, 0, "all of them begin at one slot under the first seed");
        assert!(names.iter().zip(0..).all(|(name, value)| table.find(name) == Some(value)));
        let places: Vec<_> = table.slots.iter().filter(|slot| slot.value != EMPTY).collect();
        let entries: Vec<_> = places.iter().map(|slot| (slot.text_at, slot.value)).collect();
        assert!(table.fill(&entries) <= PROBES_MAX);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = table(&[]);
        assert_eq!((table.find("a"), table.find_parent("a.b"), table.bytes()), (None, None, 0));
    }
}

//! Owns the bytes that streams are made of: a function of the position alone, so that either end
//! can make and check any part without having seen the rest. A lost, doubled or moved byte shows
//! at once. Read `stream.rs` and `upstream/` for who uses it.

/// Fills `buffer` with the stream's bytes from `position` on.
pub fn fill(buffer: &mut [u8], position: u64) {
    let mut at = position;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = word(at / 8).to_le_bytes();
        let skip = usize::from(at.to_le_bytes()[0] & 7);
        let count = (8 - skip).min(rest.len());
        let (head, tail) = rest.split_at_mut(count);
        head.copy_from_slice(&word[skip..skip + count]);
        at += count as u64;
        rest = tail;
    }
}

/// The position of the first byte that is not the stream's, if any; `buffer` starts at `position`.
#[must_use]
pub fn first_wrong(buffer: &[u8], position: u64) -> Option<u64> {
    let mut expected = [0; 4096];
    let mut at = position;
    for part in buffer.chunks(expected.len()) {
        let expected = &mut expected[..part.len()];
        fill(expected, at);
        if part != expected {
            let index = part.iter().zip(&*expected).position(|(got, want)| got != want)?;
            return Some(at + index as u64);
        }
        at += part.len() as u64;
    }
    None
}

/// splitmix64: neighbours have nothing in common.
fn word(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_equals_the_same_part_of_the_whole() {
        let mut whole = [0; 1000];
        fill(&mut whole, 0);
        for (start, end) in [(0, 1), (3, 5), (7, 9), (8, 16), (13, 999)] {
            let mut part = vec![0; end - start];
            fill(&mut part, start as u64);
            assert_eq!(part, whole[start..end], "{start}..{end}");
            assert_eq!(first_wrong(&part, start as u64), None);
        }
        whole[500] ^= 1;
        assert_eq!(first_wrong(&whole, 0), Some(500));
        assert!(first_wrong(&whole[1..], 0).is_some());
    }
}

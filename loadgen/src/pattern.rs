//! Owns the bytes that streams are made of: a function of the position alone, so that either end
//! can make and check any part without having seen the rest. A lost, doubled or moved byte shows
//! at once. Making them costs little, for a load that is slower than what it measures only measures
//! itself. Read `stream.rs` and `upstream/` for who uses it.

/// Fills `buffer` with the stream's bytes from `position` on.
pub fn fill(buffer: &mut [u8], position: u64) {
    let until_word = (WORD - offset(position)) % WORD;
    let (head, rest) = buffer.split_at_mut(until_word.min(buffer.len()));
    fill_within_word(head, position);
    let mut at = position + head.len() as u64;
    let (words, tail) = rest.as_chunks_mut::<WORD>();
    let mut next = word(at / WORD as u64);
    for bytes in &mut *words {
        *bytes = next.to_le_bytes();
        next = next.wrapping_add(STEP);
    }
    at += (words.len() * WORD) as u64;
    fill_within_word(tail, at);
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

/// What is less than a word, and ends with it or before.
fn fill_within_word(part: &mut [u8], position: u64) {
    let start = offset(position);
    let bytes = word(position / WORD as u64).to_le_bytes();
    part.copy_from_slice(&bytes[start..start + part.len()]);
}

/// Neighbours differ in nearly every byte, and no two words of a stream are the same.
const fn word(index: u64) -> u64 {
    index.wrapping_add(1).wrapping_mul(STEP)
}

const fn offset(position: u64) -> usize {
    position.to_le_bytes()[0] as usize % WORD
}

const WORD: usize = 8;
/// Odd, so that its multiples take 2^64 words to come round; from the golden ratio, so that they lie apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

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
    }

    #[test]
    fn bytes_that_moved_show_within_two_words() {
        let mut whole = vec![0; 1 << 17];
        fill(&mut whole, 0);
        for moved in (1..200).chain([256, 2048, 4096, 16_384, 65_536]) {
            let wrong = first_wrong(&whole[moved..], 0).expect("moved");
            assert!(wrong < 16, "moved by {moved}: {wrong}");
        }
    }
}

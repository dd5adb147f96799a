//! Owns a table of attempts by number. A slot is used again; the token of its former tenant then
//! finds nothing, so a late event or deadline cannot hit a stranger. Read `worker.rs` next.

use rustix::event::epoll::EventData;

/// Names a tenant of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// For epoll.
    #[must_use]
    pub fn to_event(self) -> EventData {
        EventData::new_u64(u64::from(self.generation) << 32 | u64::from(self.slot))
    }

    /// From epoll.
    #[must_use]
    pub fn from_event(data: EventData) -> Self {
        let bytes = data.u64().to_le_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            slot: u32::from_le_bytes([a, b, c, d]),
            generation: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Takes a tenant in.
    pub fn insert(&mut self, item: T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.entries[slot as usize];
        entry.1 = Some(item);
        Token { slot, generation: entry.0 }
    }

    /// The tenant, if it is still there.
    pub fn get(&mut self, token: Token) -> Option<&mut T> {
        let (generation, item) = self.entries.get_mut(token.slot as usize)?;
        if *generation == token.generation { item.as_mut() } else { None }
    }

    /// Drops the tenant, if it is still there.
    pub fn remove(&mut self, token: Token) {
        if self.get(token).is_none() {
            return;
        }
        if let Some((generation, item)) = self.entries.get_mut(token.slot as usize) {
            *generation = generation.wrapping_add(1);
            *item = None;
            self.free.push(token.slot);
        }
    }

    /// Whether any tenant is like that.
    pub fn any(&self, like: impl Fn(&T) -> bool) -> bool {
        self.entries.iter().any(|(_, item)| item.as_ref().is_some_and(&like))
    }

    /// How many tenants are like that.
    pub fn count(&self, like: impl Fn(&T) -> bool) -> u64 {
        self.entries.iter().filter(|(_, item)| item.as_ref().is_some_and(&like)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_former_tenant_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        slots.remove(first);
        let second = slots.insert('b');
        assert_eq!(first.slot, second.slot);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get(second), Some(&mut 'b'));
        slots.remove(first);
        assert_eq!(slots.count(|_| true), 1);
        assert_eq!(Token::from_event(second.to_event()), second);
    }
}

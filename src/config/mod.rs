//! Configuration: text in, a `Plan` out, or every problem at once with its line and column.
//!
//! `raw` is what the files say, `plan` what a gateway runs on, `error` what is wrong; `convert` leads
//! from the first to the second. Opens the configuration files and no others. Read `load` next.

mod convert;
pub mod error;
mod include;
mod load;
mod merge;
mod node;
pub mod plan;
pub(crate) mod quantity;
mod raw;
mod render;
mod source;
mod suggest;
#[cfg(test)]
mod tests;

pub use self::convert::{group_name, suite_name};
pub use self::load::{Seen, load, load_admin, load_seen, load_text};
pub use self::node::Key;
pub use self::render::{Style, render};

use self::node::FromNode;

/// Every key that a file may have, tables before what is in them.
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    raw::RawFile::keys_below("", &mut keys);
    keys
}

/// A duration as a file writes it, such as "5s"; `None` of any other text.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    quantity::duration(text).ok()
}

//! Who the process becomes, and what keeps it from files: names as they are written, of which nothing is looked
//! up here.

use crate::config::error::Location;

/// Names, or numbers; not yet looked up.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: String,
    pub user_at: Location,
    /// Left out: the user's own.
    pub group: Option<(String, Location)>,
}

/// Whether the kernel keeps the process from all files that it does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Where the kernel can.
    Auto,
    /// Or the process does not start.
    Required,
    Off,
}

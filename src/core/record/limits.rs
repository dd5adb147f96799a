//! Caps on what costs us work and brings the peer nothing: key updates, tickets and records without data.
//!
//! Never reads a clock: `now` is an argument. `opener.rs` asks before it acts on such a record.

use std::time::{Duration, Instant};

use super::error::Span;

/// What one peer may do in one second; all of it is legal TLS, and no honest peer comes near.
///
/// "In a row" counts those within a second with no application data between them. Both counts
/// start afresh with each second, so that a connection that lives for years and updates its keys
/// or sends cover traffic now and then is never closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLimits {
    /// KeyUpdates and session tickets in a row. 32 KeyUpdates are what rustls and BoringSSL allow. Of tickets
    /// OpenSSL sends two, and no server more than ten unless it is told to.
    pub messages_in_a_row_max: u32,
    /// KeyUpdates and session tickets in a second, data between them or not.
    pub messages_per_second_max: u32,
    /// Records without data in a row: empty, padding only, or a warning alert. 32 is what rustls
    /// and BoringSSL allow.
    pub empty_records_in_a_row_max: u32,
    /// Records without data in a second, data between them or not.
    pub empty_records_per_second_max: u32,
    /// Bytes of one post-handshake message without its header. 65,535 is what rustls allows.
    pub message_bytes_max: u16,
}

/// Counts one kind of record in windows of a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    since: Option<Instant>,
    in_a_row: u32,
    in_window: u32,
}

impl Default for OpenLimits {
    fn default() -> Self {
        Self {
            messages_in_a_row_max: 32,
            // A peer that updates every 2^24 records, as it should, would need 2 TB/s for this.
            messages_per_second_max: 128,
            empty_records_in_a_row_max: 32,
            empty_records_per_second_max: 4_096,
            message_bytes_max: 0xffff,
        }
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { since: None, in_a_row: 0, in_window: 0 }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// The cap that it passes.
    pub(super) fn count(
        &mut self,
        now: Instant,
        in_a_row_max: u32,
        per_second_max: u32,
    ) -> Result<(), (u32, Span)> {
        let fresh = self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
        if fresh {
            *self = Self { since: Some(now), in_a_row: 0, in_window: 0 };
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.in_window = self.in_window.saturating_add(1);
        if self.in_a_row > in_a_row_max {
            return Err((in_a_row_max, Span::InARow));
        }
        if self.in_window > per_second_max {
            return Err((per_second_max, Span::PerSecond));
        }
        Ok(())
    }

    /// Application data arrived: the row ends, the window does not.
    #[inline]
    pub(super) fn end_row(&mut self) {
        self.in_a_row = 0;
    }
}

const WINDOW: Duration = Duration::from_secs(1);

//! What the operating system gives: sockets, splice, cores, inotify, and the only clock.
//!
//! Thin and safe (rustix, socket2); no policy. `socket` is the place to start.

pub mod clock;
pub mod descriptors;
pub mod inotify;
pub mod ring;
pub mod socket;
pub mod splice;
pub mod status;
pub mod thread;

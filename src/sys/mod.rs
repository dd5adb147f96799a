//! What the operating system gives: sockets, splice, cores, inotify, the sandbox, and the only clock.
//!
//! Thin and safe (rustix, socket2, nix, landlock); no policy. `socket` is the place to start.

pub mod clock;
pub mod descriptors;
pub mod inotify;
pub mod privileges;
pub mod sandbox;
pub mod socket;
pub mod splice;
pub mod status;
pub mod thread;

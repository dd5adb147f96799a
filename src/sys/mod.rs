//! What the operating system gives: sockets, splice, cores, inotify, the sandbox, the way to a process that
//! takes over, and the only clock.
//!
//! Thin and safe (rustix, socket2, nix, landlock, seccompiler); no policy. `socket` is the place to start.

pub mod call_filter;
pub mod channel;
pub mod clock;
mod congestion;
pub mod descriptors;
pub mod huge_pages;
pub mod inotify;
pub mod passed;
pub mod privileges;
pub mod program;
pub mod ring;
pub mod sandbox;
pub mod shortage;
pub mod socket;
pub mod splice;
pub mod status;
pub mod thread;

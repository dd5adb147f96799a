//! Any text gives a plan or problems with places in it, and they can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::config::{self, Style};

fuzz_target!(|text: &str| {
    if let Err(problems) = config::load_text(text, Path::new("/nowhere/fuzz.toml")) {
        assert!(!problems.is_empty(), "refused without a reason");
        config::render(&problems, Style::Plain);
    }
});

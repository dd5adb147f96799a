//! The command `portcullis-load`.
fn main() {}

//! Whether the kernel may give this process memory in pages of 2 MiB.

use std::io;

use rustix::thread::disable_transparent_huge_pages;

/// From now on memory is given 4 KiB at a time, to this process and to those that it becomes: what idle
/// connections hold is then resident, and not the rest of the 2 MiB around it.
///
/// # Errors
/// The kernel does not know how.
pub fn forgo() -> io::Result<()> {
    Ok(disable_transparent_huge_pages(true)?)
}

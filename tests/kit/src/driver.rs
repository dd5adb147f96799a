//! On which driver the gateways under test run: as their configuration says, or, where that says
//! nothing, on the one that the environment names, so that one suite proves both.

use std::borrow::Cow;

use crate::skip;

/// `io_uring` has every gateway run on io_uring that its configuration does not put elsewhere.
const VARIABLE: &str = "PORTCULLIS_TEST_IO";

/// Whether this kernel lets this process have a ring.
pub fn has_io_uring() -> bool {
    io_uring::IoUring::new(1).is_ok()
}

/// `config` for the driver that this run is to prove.
#[expect(clippy::disallowed_methods, reason = "one suite is run on either driver from outside")]
pub(crate) fn driven(config: &str) -> Cow<'_, str> {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("" | "epoll") => Cow::Borrowed(config),
        Ok("io_uring") if !has_io_uring() => {
            skip::missing("io_uring", "a kernel and a sandbox that allow it");
            Cow::Borrowed(config)
        }
        Ok("io_uring") => with(config, "io_uring"),
        Ok(other) => panic!("{VARIABLE} is {other:?}, and not \"epoll\" or \"io_uring\""),
    }
}

/// `config` with `runtime.io`, unless it has one.
fn with<'a>(config: &'a str, io: &str) -> Cow<'a, str> {
    let is_said = config.split(['\n', '{', ',']).any(|part| {
        part.trim_start().strip_prefix("io").is_some_and(|rest| rest.trim_start().starts_with('='))
    });
    if is_said {
        return Cow::Borrowed(config);
    }
    let key = format!("io = \"{io}\"");
    let places = [
        ("runtime = {", format!("runtime = {{ {key},")),
        ("[runtime]", format!("[runtime]\n{key}")),
    ];
    Cow::Owned(match places.iter().find(|(place, _)| config.contains(place)) {
        Some((place, text)) => config.replacen(place, text, 1),
        None => format!("runtime.{key}\n{config}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_its_driver_once() {
        let cases = [
            ("runtime = { workers = 1 }\n", "runtime = { io = \"io_uring\", workers = 1 }\n"),
            ("[admin]\n", "runtime.io = \"io_uring\"\n[admin]\n"),
            ("[runtime]\nio  = \"auto\"\n", "[runtime]\nio  = \"auto\"\n"),
            ("runtime = { io = \"epoll\" }\n", "runtime = { io = \"epoll\" }\n"),
            ("[a]\n[runtime]\nworkers = 1\n", "[a]\n[runtime]\nio = \"io_uring\"\nworkers = 1\n"),
        ];
        for (before, after) in cases {
            assert_eq!(with(before, "io_uring"), after);
        }
    }
}

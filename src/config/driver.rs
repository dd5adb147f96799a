//! The drivers of sockets that a configuration can ask for. Part of `plan`, which says when.

/// How sockets are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    Epoll,
    IoUring,
}

impl Io {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

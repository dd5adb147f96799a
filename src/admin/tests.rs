//! The admin endpoint over real sockets.

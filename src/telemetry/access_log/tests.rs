//! Lines, the thread that writes them, and its sinks.

//! What the tests share: development certificates, TLS peers, deadlines. Never part of the product.

pub mod unbuffered;

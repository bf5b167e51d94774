//! Tokens, job responses and the worker's messages, from outside.

#![forbid(unsafe_code)]

mod message;
mod verification;

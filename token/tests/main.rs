//! Tokens, job responses and the worker's messages, through the public interface.

#![forbid(unsafe_code)]

mod message;
mod verification;

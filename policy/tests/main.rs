//! Policies as the documentation has them.

#![forbid(unsafe_code)]

mod recipes;
mod reference;

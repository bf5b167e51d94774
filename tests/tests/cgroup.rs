//! Jobs with control groups of version 1. This process goes into groups of its own, so its tests take turns (`Groups::enter`).

#![forbid(unsafe_code)]

mod limits;
mod stray;

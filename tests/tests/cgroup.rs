//! Jobs with v1 cgroups. This process enters cgroups of its own, so its tests take turns
//! (`Groups::enter`).

#![forbid(unsafe_code)]

mod limits;
mod stray;

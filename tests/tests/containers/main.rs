//! Container engines as a site has them: the machines, images and registries of the test bed (`containers::Node`).

#![forbid(unsafe_code)]

mod testbed;

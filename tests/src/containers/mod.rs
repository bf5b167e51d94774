//! Container engines as a site has them: machines with accounts, images, and a registry.
//!
//! - [`Job`]: the launcher, for a job with a container.
//! - [`Booted`]: a booted host with a newer Podman and a person's own systemd.
//! - [`Node`]: a machine with the engines of a Debian release and people who use them.
//! - [`Image`]: an image that a test makes, without network; [`samples`] has ready ones.
//! - [`Registry`]: Debian's docker-registry with TLS and passwords.
//! - [`Example`]: a job of the user's guide.
//! - [`Front`]: what stands before it, counts requests and fails as a test wants.
//!
//! ```no_run
//! # use nunbird_tests::containers::{Node, Registry, Release, samples};
//! let node = Node::start(Release::Host);
//! let registry = Registry::start();
//! node.trust(&registry.ca_pem());
//! registry.push("lattice/tools:1", &samples::busybox());
//! let ann = node.person("nbt_ann");
//! ann.run(["podman", "pull", &registry.direct("lattice/tools:1")]);
//! ```

mod booted;
mod example;
mod front;
mod image;
mod job;
mod layer;
pub mod nest;
mod node;
mod person;
mod registry;
pub mod samples;
mod trees;
pub mod whole;

pub use crate::scheduler::release::Release;
pub use booted::Booted;
pub use example::Example;
pub use front::{Fault, Front, On};
pub use image::{Digest, Image, Index};
pub use job::Job;
pub use layer::Layer;
pub use node::{NESTING, Node};
pub use person::Person;
pub use registry::{PASSWORD, Push, Registry, USER};

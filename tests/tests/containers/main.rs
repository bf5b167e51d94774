//! Container engines as a site has them: the machines, images and registries of the test bed (`containers::Node`), and jobs in
//! containers of each engine that the host's release has, beside Podman.

#![forbid(unsafe_code)]

mod by_hand;
mod by_hand_kept;
mod by_hand_site;
mod by_hand_users;
mod cases;
mod copies;
mod devices;
mod digests;
mod facts;
mod forged;
mod given;
mod guide;
mod images;
mod installed;
mod kept;
mod lacks;
mod machines;
mod nest;
mod nest_stub;
mod platforms;
mod refused;
mod runner;
mod saved;
mod site_credentials;
mod testbed;
mod trial;
mod upsets;

use cases::Setup;
use nunbird_tests::containers::Release;

const fn of(engine: &'static str, no_new_privileges: bool) -> Setup {
    Setup { release: Release::Host, engine, no_new_privileges }
}

const EACH: [Setup; 3] = [of("bwrap", false), of("charliecloud", false), of("charliecloud", true)];
/// The engines whose failures without user namespaces are explained.
const EACH_AND_PODMAN: [Setup; 3] = [of("bwrap", false), of("charliecloud", false), of("podman", true)];
/// The engines with images, and Podman, whose own tests are with the launcher.
const WITH_PODMAN: [Setup; 3] = [of("podman", false), of("podman", true), of("charliecloud", false)];

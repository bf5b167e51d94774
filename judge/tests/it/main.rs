//! The judgement, and the questions of it that a process without privilege answers.

#![forbid(unsafe_code)]

mod account;
mod book;
mod judgement;
mod questions;
#[path = "../../../token/tests/verification/scene.rs"]
#[allow(dead_code, reason = "a part of what the tests of tokens use")]
mod scene;

use nunbird_policy::Policy;
use std::path::Path;

const SERVERS: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = ["https://gitlab.example.org"]
algorithms = ["RS256"]
"#;

/// A policy of one server, and more.
fn policy(more: &str) -> Policy {
    let text = format!("{SERVERS}{more}");
    Policy::parse(Path::new("config.toml"), &text).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"))
}

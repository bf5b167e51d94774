//! What a crashed gitlab-runner left behind, and `nunbirdctl sweep`, which removes it.

mod builds;
mod leftovers;
mod records;

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
pub(crate) use nunbird_tests::process::runs;
use nunbird_tests::runner::Session;
use nunbird_tests::world::{Finished, Privilege, World};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

pub(crate) fn sweep(world: &World, account: &str, arguments: &[&str]) -> Finished {
    let program = world.paths().bin.join("nunbirdctl");
    let runner = world.runner().name.as_str();
    let all = [&["sweep", "--format", "json", "--runner-user", runner], arguments].concat();
    world.run(&world.program(account, program, &all))
}

/// Kind, action and the whole item of each path's last component.
pub(crate) fn items(finished: &Finished) -> Vec<(String, String, String)> {
    let value: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", finished.stdout, finished.stderr));
    let text = |item: &Value, key: &str| item[key].as_str().expect("a text").to_owned();
    let mut items: Vec<_> = value["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| {
            let path = PathBuf::from(text(item, "path"));
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, text(item, "action"), format!("{} {}", text(item, "reason"), item["said"]))
        })
        .collect();
    items.sort();
    items
}

pub(crate) fn action<'i>(items: &'i [(String, String, String)], name: &str) -> &'i str {
    let found = items.iter().find(|item| item.0 == name);
    found.map_or("not looked at", |item| item.1.as_str())
}

/// A job whose runner is gone: a daemon, a file variable, a record.
pub(crate) fn crashed(session: &mut Session<'_>) {
    assert!(session.config().succeeded() && session.prepare().succeeded());
    assert!(session.stage("get_sources").succeeded());
    let daemon = "setsid sh -c 'echo $$ >~/new; mv ~/new ~/daemon; exec sleep 300' </dev/null >/dev/null 2>&1 &\n\
                  while [ ! -s ~/daemon ]; do sleep 0.02; done";
    assert!(session.run_text("build_script", daemon).succeeded());
}

/// As if the job's time were up.
pub(crate) fn expire(record: &Path) {
    nunbird_tests::records::change(record, |record| record.expires_at = 1);
}

pub(crate) fn credentials(world: &World) -> PathBuf {
    let builds = world.host_path("/home/alice/.nunbird/builds");
    let host = fs::read_dir(builds).expect("builds").flatten().next().expect("this host's").path();
    host.join("000/physics/lattice.tmp")
}

/// Sets its mtime this many days back.
pub(crate) fn age(path: &Path, days: i64) {
    let inside = if path.is_symlink() { None } else { fs::read_dir(path).ok() };
    for entry in inside.into_iter().flatten().flatten() {
        age(&entry.path(), days);
    }
    let then = TimeSpec::new(nunbird_tests::issuer::now().cast_signed() - days * 86_400, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &then, &then, UtimensatFlags::NoFollowSymlink).expect("a time");
}

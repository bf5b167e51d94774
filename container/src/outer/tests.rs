use super::{BASES, MARK, Outer, name};
use crate::description::{Description, podman};
use crate::resolved::Resolved;
use crate::services::ServiceImage;
use crate::testing::{bind, container, handover};
use nunbird_handover::{Bind, Engine, Handover};
use nunbird_skip::needs;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// What `setup` prints as the runtime directory.
fn runtime(script: &Path) -> String {
    let said = Command::new("/bin/sh").arg(script).arg("setup").output().expect("sh");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("runtime "));
    line.unwrap_or_else(|| panic!("{said:?}")).to_owned()
}

#[needs(root)]
fn a_runtime_directory_is_the_accounts_and_no_link_and_private_before_it_is_ready() {
    let (mut container, mut handover) = (container(), handover());
    container.image = None;
    handover.decision_id = format!("nbt-{}", std::process::id());
    let description = Description::of(&Engine::Named("bwrap".to_owned())).expect("a description");
    let outer = Outer {
        description: &description,
        handover: &handover,
        container: &container,
        image: None,
        services: &[],
        binds: &[],
        nonce: "0",
        grace: 0,
        allocation: None,
    };
    let scratch = tempfile::tempdir().expect("a directory");
    let script = scratch.path().join("outer");
    fs::write(&script, outer.text().expect("a script")).expect("written");
    let places = BASES.map(|base| Path::new(base).join(name(&handover, &container)));
    let [first, second, _] = &places;
    let ready = |directory: &Path| {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join("ready"), "").expect("written");
    };
    // Writable for others, as no `setup` leaves it.
    fs::create_dir(first).expect("a directory");
    fs::set_permissions(first, PermissionsExt::from_mode(0o777)).expect("a mode");
    assert_eq!(Path::new(&runtime(&script)), first);
    assert_eq!(fs::metadata(first).expect("made").permissions().mode() & 0o022, 0);
    assert_eq!(Path::new(&runtime(&script)), first, "ready");
    // Another account's.
    chown(first, Some(65_534), None).expect("root");
    assert_eq!(Path::new(&runtime(&script)), second);
    fs::remove_dir_all(second).expect("removed");
    // A link to one of the account's.
    fs::remove_dir_all(first).expect("removed");
    let elsewhere = scratch.path().join("elsewhere");
    ready(&elsewhere);
    symlink(&elsewhere, first).expect("a link");
    assert_eq!(Path::new(&runtime(&script)), second);
    fs::remove_file(first).expect("removed");
    fs::remove_dir_all(second).expect("removed");
}

#[test]
fn a_value_with_a_mark_makes_no_script() {
    let description = podman();
    let (container, handover) = (container(), handover());
    let image = |path: &str| Resolved::new("a".to_owned(), path.to_owned());
    let text = |image: &Resolved, service: &Resolved, binds: &[Bind], handover: &Handover| {
        let services = [ServiceImage { image: service.clone(), ports: Vec::new(), saved: None }];
        let outer = Outer {
            description: &description,
            handover,
            container: &container,
            image: Some(image),
            services: &services,
            binds,
            nonce: "0",
            grace: 0,
            allocation: None,
        };
        outer.text().map_err(|e| e.to_string())
    };
    let (good, bad) = (image("/a.sif"), image("/a\u{1}(id)\u{1}.sif"));
    assert!(text(&good, &good, &[bind("/a", "/a", true)], &handover).expect("a script").contains("/a.sif"));
    let odd = [bind("/a", "/a\u{1}r\u{1}", true)];
    let mut stranger = handover.clone();
    stranger.account.home = "/home/\u{1}r\u{1}/a".into();
    for refused in [
        text(&bad, &good, &[], &handover),
        text(&good, &bad, &[], &handover),
        text(&good, &good, &odd, &handover),
        text(&good, &good, &[], &stranger),
    ] {
        let why = refused.unwrap_err();
        assert!(why.contains("control character") && !why.contains(MARK), "{why}");
    }
}

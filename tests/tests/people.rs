//! An account is bound to the GitLab user whose job used it first, tested with the installed
//! program in every privilege mode.

use nunbird_tests::needs;
use nunbird_tests::runner::{Job, StageOutcome, assert_refused};
use nunbird_tests::world::enter::Mount;
use nunbird_tests::world::{Exit, Finished, Privilege, World};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

static JOB_ID: AtomicU64 = AtomicU64::new(100_000);

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// A job of the GitLab user with this login and id.
fn job<'w>(world: &'w World, login: &str, user_id: u64) -> Job<'w> {
    world.job().facts(|facts| {
        login.clone_into(&mut facts.user_login);
        facts.user_id = user_id;
        // A job may be admitted a few times only.
        facts.job_id = JOB_ID.fetch_add(1, Ordering::Relaxed);
    })
}

/// `config` of such a job.
fn config(world: &World, login: &str, user_id: u64) -> StageOutcome {
    job(world, login, user_id).config()
}

#[track_caller]
fn assert_admitted(world: &World, outcome: &StageOutcome, account: &str) {
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("a line")["account"], account);
}

/// Asserts a denial that names both users to the admin and none to the user.
#[track_caller]
fn assert_another(world: &World, outcome: &StageOutcome, pinned: u64, user_id: u64) {
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert_refused(world, outcome, "pin-mismatch", &format!("user id {pinned} "));
    assert_refused(world, outcome, "pin-mismatch", &format!("has id {user_id}"));
    let said = outcome.stderr.split("  = decision").next().expect("a text");
    assert!(!said.contains(&pinned.to_string()) && !said.contains("people forget"), "{said}");
    assert_eq!(world.audit().last().expect("a line")["user_id"], user_id);
}

fn store(world: &World) -> PathBuf {
    world.host_path("/var/lib/nunbird/people")
}

/// The store's files, also hidden ones, and what they hold.
fn files(world: &World) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fs::read_dir(store(world))
        .expect("the store")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    all.sort();
    all
}

fn people(world: &World, arguments: &[&str]) -> Finished {
    let arguments: Vec<&str> = ["people"].iter().chain(arguments).copied().collect();
    world.run(&world.program("root", world.paths().bin.join("nunbirdctl"), &arguments))
}

/// The configured name of the world's server.
fn server(world: &World) -> String {
    let text = world.configuration();
    let name = text.lines().find_map(|line| line.strip_prefix("name = "));
    name.expect("a server").trim_matches('"').to_owned()
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn an_account_stays_with_the_gitlab_user_whose_job_had_it_first(privilege: Privilege) {
    let world = world(privilege);
    let server = server(&world);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    let pin = (format!("{server}:alice"), format!("alice {server} 42\n"));
    assert_eq!(files(&world), std::slice::from_ref(&pin), "{privilege:?}");
    let meta = fs::metadata(store(&world).join(&pin.0)).expect("the file");
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o600), "{privilege:?}");
    let before = world.records().len();
    assert_another(&world, &config(&world, "alice", 77), 42, 77);
    assert_eq!(world.records().len(), before, "no record of a denied job");
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    assert_eq!(files(&world), [pin]);
}

#[needs(root)]
fn a_login_that_is_renamed_and_taken_by_another_does_not_bring_the_account_along() {
    let world = world(Privilege::Setuid);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    assert_admitted(&world, &config(&world, "bob", 43), "bob");
    // Alice changes her login to bob for a while, then takes her own back.
    assert_another(&world, &config(&world, "bob", 42), 43, 42);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    // Alice's user is deleted, and a new user gets her name.
    assert_another(&world, &config(&world, "alice", 4711), 42, 4711);
    assert_admitted(&world, &config(&world, "bob", 43), "bob");
}

#[needs(root)]
fn another_server_has_people_of_its_own() {
    let world = world(Privilege::Setuid);
    let server = server(&world);
    fs::write(store(&world).join("other:alice"), "alice other 7\n").expect("a pin");
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    let names: Vec<String> = files(&world).into_iter().map(|(name, _)| name).collect();
    let mut expected = ["other:alice".to_owned(), format!("{server}:alice")];
    expected.sort();
    assert_eq!(names, expected);
    assert_another(&world, &config(&world, "alice", 7), 42, 7);
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn only_known_people_run_jobs_where_the_site_says_so(privilege: Privilege) {
    let world = world(privilege);
    let server = server(&world);
    world.reconfigure(
        "[audit]",
        "[accounts]\npinning = \"known\"\npeople_file = \"/etc/nunbird/people\"\n\n[audit]",
    );
    world.write_file("/etc/nunbird/people", format!("# staff\nbob {server} 43\n"), "root", 0o644);
    let outcome = config(&world, "alice", 42);
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert_refused(&world, &outcome, "pin-unknown", &format!("alice {server} 42"));
    assert!(files(&world).is_empty());
    assert_admitted(&world, &config(&world, "bob", 43), "bob");
    assert_another(&world, &config(&world, "bob", 42), 43, 42);
    assert!(files(&world).is_empty(), "the site's word is not copied");
    fs::write(store(&world).join(format!("{server}:alice")), format!("alice {server} 42\n")).expect("a pin");
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
}

#[needs(root)]
fn the_sites_list_goes_before_the_hosts_memory_and_counts_only_whole() {
    let world = world(Privilege::FileCaps);
    let server = server(&world);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    world.reconfigure("[audit]", "[accounts]\npeople_file = \"/etc/nunbird/people\"\n\n[audit]");
    let outcome = config(&world, "alice", 42);
    assert_eq!(outcome.exit, Exit::Code(2), "a list that is missing is trouble: {}", outcome.log);
    assert_refused(&world, &outcome, "pin-store", "/etc/nunbird/people");
    world.write_file("/etc/nunbird/people", format!("alice {server} 77\n"), "root", 0o644);
    assert_another(&world, &config(&world, "alice", 42), 77, 42);
    assert_admitted(&world, &config(&world, "alice", 77), "alice");
    // The list does not contain bob, so the host stores his binding.
    assert_admitted(&world, &config(&world, "bob", 43), "bob");
    assert_another(&world, &config(&world, "bob", 44), 43, 44);
    for (text, owner, mode, why) in [
        (format!("alice {server} 77\nbob {server}\n"), "root", 0o644, "/etc/nunbird/people:2:"),
        (format!("alice {server} 77\nalice {server} 42\n"), "root", 0o644, "/etc/nunbird/people:2:"),
        (format!("alice {server} 77\n"), "root", 0o664, "writable by others"),
        (format!("alice {server} 77\n"), "alice", 0o644, "owned by uid"),
    ] {
        world.write_file("/etc/nunbird/people", text, owner, mode);
        let outcome = config(&world, "alice", 77);
        assert_eq!(outcome.exit, Exit::Code(2), "{why}: {}", outcome.log);
        assert_refused(&world, &outcome, "pin-store", why);
    }
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn of_two_users_whose_first_jobs_come_at_once_one_gets_the_account(privilege: Privilege) {
    let world = world(privilege);
    let server = server(&world);
    for round in 0..20 {
        let jobs: Vec<Job<'_>> = (0..4).map(|n| job(&world, "alice", 100 + n)).collect();
        let mut sessions: Vec<_> = jobs.iter().map(Job::begin).collect();
        let outcomes: Vec<StageOutcome> = std::thread::scope(|scope| {
            let calls: Vec<_> = sessions.iter_mut().map(|s| scope.spawn(|| s.config())).collect();
            calls.into_iter().map(|call| call.join().expect("a call")).collect()
        });
        let admitted: Vec<usize> = (0..4).filter(|n| outcomes[*n].succeeded()).collect();
        assert_eq!(admitted.len(), 1, "{privilege:?} {round}: {admitted:?}");
        for outcome in outcomes.iter().filter(|outcome| !outcome.succeeded()) {
            assert!(outcome.stderr.contains("[pin-mismatch]"), "{}", outcome.stderr);
        }
        assert_eq!(
            files(&world),
            [(format!("{server}:alice"), format!("alice {server} {}\n", 100 + admitted[0]))]
        );
        for session in &mut sessions {
            session.cleanup();
        }
        people(&world, &["forget", "alice"]).success();
    }
}

/// A file system of this machine that goes with the value.
struct Small(PathBuf);

impl Small {
    /// With room for names, and for no content at all.
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a directory");
        let mount = |options: &str| {
            let done =
                Command::new("mount").args(["-t", "tmpfs", "-o", options, "nbt_people"]).arg(&path).status();
            assert!(done.expect("mount(8)").success());
        };
        mount("size=64k,mode=0700");
        let filler = vec![b'x'; 1 << 20];
        fs::write(path.join(".filler"), filler).expect_err("it is full now");
        Small(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn where_the_memory_is_full_or_gone_no_first_job_runs_and_nothing_half_stays(privilege: Privilege) {
    let world = world(privilege);
    let small = Small::at(world.root().join("small"));
    let call = |mount: Mount| {
        let job = job(&world, "alice", 42);
        let mut session = job.begin();
        let mut spec = session.spec_of_config();
        spec.mounts.as_mut().expect("a namespace").push(mount);
        session.call_spec("config", &spec)
    };
    let target = PathBuf::from("/var/lib/nunbird/people");
    let mounts = [
        Mount::Bind { source: small.0.clone(), target: target.clone() },
        Mount::Full { target: target.clone() },
    ];
    for mount in mounts {
        let outcome = call(mount);
        assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
        assert_refused(&world, &outcome, "pin-store", "cannot be written");
        assert!(world.records().is_empty(), "the job does not run");
    }
    let left: Vec<_> =
        fs::read_dir(&small.0).expect("a directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, [".filler"], "{privilege:?}");
    fs::remove_dir(store(&world)).expect("removed");
    let outcome = config(&world, "alice", 42);
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert_refused(&world, &outcome, "pin-store", "No such file or directory");
}

#[needs(root)]
fn a_pin_that_is_torn_empty_moved_or_another_accounts_is_trouble_and_never_no_pin() {
    let world = world(Privilege::Setuid);
    let server = server(&world);
    let file = store(&world).join(format!("{server}:alice"));
    for (text, why) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("alice", "expected the name of a server"),
        (&format!("alice {server} 4"), "not one whole line"),
        (&format!("bob {server} 42\n"), "another account"),
        ("alice x 42\n", "another account"),
    ] {
        fs::write(&file, text).expect("a file");
        let outcome = config(&world, "alice", 42);
        assert_eq!(outcome.exit, Exit::Code(2), "{text:?}: {}", outcome.log);
        assert_refused(&world, &outcome, "pin-store", why);
        assert_eq!(fs::read_to_string(&file).expect("a file"), text, "it is left as it is");
    }
    let good = format!("alice {server} 42\n");
    fs::write(&file, &good).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).expect("a mode");
    assert_refused(&world, &config(&world, "alice", 42), "pin-store", "mode 0646");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    chown(&file, Some(4001), None).expect("an owner");
    assert_refused(&world, &config(&world, "alice", 42), "pin-store", "owned by uid 4001");
    fs::remove_file(&file).expect("removed");
    std::os::unix::fs::symlink("elsewhere", &file).expect("a link");
    assert_refused(&world, &config(&world, "alice", 42), "pin-store", "symbolic links");
    fs::remove_file(&file).expect("removed");
    fs::write(&file, &good).expect("a file");
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    fs::set_permissions(store(&world), fs::Permissions::from_mode(0o755)).expect("a mode");
    assert_refused(&world, &config(&world, "alice", 42), "pin-store", "mode 0755");
    let listed = people(&world, &["list"]);
    assert_eq!(listed.exit, Exit::Code(1), "{listed:?}");
    assert!(listed.stderr.contains("mode 0755"), "{listed:?}");
    fs::set_permissions(store(&world), fs::Permissions::from_mode(0o700)).expect("a mode");
    // What corrects a damaged file.
    fs::write(&file, "").expect("a file");
    let listed = people(&world, &["list"]);
    assert!(listed.exit == Exit::Code(1) && listed.stderr.contains("people forget alice"), "{listed:?}");
    let exported = people(&world, &["export"]);
    assert!(exported.exit == Exit::Code(1) && exported.stdout.is_empty(), "{exported:?}");
    people(&world, &["forget", "alice"]).success();
    assert_admitted(&world, &config(&world, "alice", 43), "alice");
}

#[needs(root)]
fn a_job_that_is_denied_for_another_reason_leaves_no_user_remembered() {
    let world = world(Privilege::Setuid);
    let outcome = job(&world, "alice", 42).facts(|f| f.project_path = "outside/app".to_owned()).config();
    assert!(!outcome.succeeded(), "{}", outcome.log);
    let denied = job(&world, "alice", 42).claim("job_id", json!("1")).config();
    assert!(!denied.succeeded(), "{}", denied.log);
    assert!(!config(&world, "daisy", 42).succeeded(), "an account that no job becomes");
    world.reconfigure("[audit]", "[accounts]\nauthorized_projects = \"required\"\n\n[audit]");
    let own_word = config(&world, "alice", 42);
    assert!(own_word.stderr.contains("[authorized-projects]"), "{}", own_word.stderr);
    assert!(files(&world).is_empty(), "{:?}", files(&world));
}

#[needs(root)]
fn accounts_that_no_user_can_choose_and_rules_that_say_so_are_not_pinned() {
    let world = world(Privilege::Setuid);
    let server = server(&world);
    let plain = world.configuration();
    let with = |run_as: &str, more: &str| {
        world.configure(
            &plain
                .replace("run_as = \"$user_login\"", run_as)
                .replace("[audit]", &format!("{more}\n[audit]")),
        );
    };
    world.write_file(
        "/etc/nunbird/map",
        "42 alice\n43 alice\ncarol alice\nphysics/lattice alice\n",
        "root",
        0o644,
    );
    let map = |key: &str| format!("[map.m]\nfile = \"/etc/nunbird/map\"\nkey = \"{key}\"\n");
    for (run_as, more) in [
        ("run_as = \"alice\"", String::new()),
        ("run_as = { map = \"m\" }", map("user_id")),
        ("run_as = { map = \"m\" }", map("project_path")),
        ("run_as = \"$user_login\"\npinning = \"off\"", String::new()),
        ("run_as = \"$user_login\"", "[accounts]\npinning = \"off\"\n".to_owned()),
    ] {
        with(run_as, &more);
        for user_id in [42, 43] {
            assert_admitted(&world, &config(&world, "alice", user_id), "alice");
        }
        assert!(files(&world).is_empty(), "{run_as} {more}");
    }
    // A map from logins gives accounts by what users choose.
    with("run_as = { map = \"m\" }", &map("user_login"));
    assert_admitted(&world, &config(&world, "carol", 5), "alice");
    assert_another(&world, &config(&world, "carol", 6), 5, 6);
    assert_eq!(files(&world), [(format!("{server}:alice"), format!("alice {server} 5\n"))]);
}

#[needs(root)]
fn an_account_that_the_sites_program_names_is_pinned_where_it_is_the_login() {
    let world = world(Privilege::Setuid);
    world.write_file(
        "/etc/nunbird/validate",
        "#!/bin/sh\n[ \"$JWT_USER_LOGIN\" = shared ] && echo '{\"username\":\"bob\"}'\nexit 0\n",
        "root",
        0o755,
    );
    world.reconfigure(
        "[audit]",
        "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"nunbird\"\n\n[audit]",
    );
    world.reconfigure("run_as = \"$user_login\"", "run_as = \"$validated\"");
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    assert_another(&world, &config(&world, "alice", 43), 42, 43);
    for user_id in [50, 51] {
        assert_admitted(&world, &config(&world, "shared", user_id), "bob");
    }
    assert_eq!(files(&world).len(), 1);
}

#[needs(root)]
fn what_a_host_remembers_is_listed_forgotten_exported_and_imported() {
    let (world, second) = (world(Privilege::Setuid), world(Privilege::FileCaps));
    let server = server(&world);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    assert_admitted(&world, &config(&world, "bob", 43), "bob");
    fs::write(store(&world).join("other:alice"), "alice other 7\n").expect("a pin");
    let shown = people(&world, &["show", "alice", "--format", "json"]).success();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let ids: Vec<&Value> =
        shown["people"].as_array().expect("people").iter().map(|p| &p["user_id"]).collect();
    assert_eq!(ids.len(), 2, "{shown}");
    assert_eq!(people(&world, &["show", "carol"]).exit, Exit::Code(1));
    let exported = people(&world, &["export"]).success();
    let mut lines: Vec<&str> = exported.lines().filter(|line| !line.starts_with('#')).collect();
    lines.sort_unstable();
    let mut expected = [format!("alice {server} 42"), "alice other 7".to_owned(), format!("bob {server} 43")];
    expected.sort();
    assert_eq!(lines, expected);

    // Another host imports the list, and has the same bindings.
    second.write_file("/etc/nunbird/list", &exported, "root", 0o644);
    assert_eq!(people(&second, &["import", "/etc/nunbird/list"]).success(), "3 added, 0 replaced");
    assert_eq!(files(&second), files(&world));
    assert_eq!(people(&second, &["import", "/etc/nunbird/list"]).success(), "0 added, 0 replaced");
    assert_another(&second, &config(&second, "alice", 77), 42, 77);
    assert_admitted(&second, &config(&second, "alice", 42), "alice");

    // One line that is wrong, or contradicts, and nothing of the file applies.
    let before = files(&second);
    second.write_file("/etc/nunbird/list", format!("carol {server} 1\nalice {server} x\n"), "root", 0o644);
    let refused = people(&second, &["import", "/etc/nunbird/list"]);
    assert!(refused.exit == Exit::Code(3), "{refused:?}");
    assert!(refused.stderr.contains(&format!("/etc/nunbird/list:2:{}", 8 + server.len())), "{refused:?}");
    second.write_file("/etc/nunbird/list", format!("carol {server} 1\nalice {server} 77\n"), "root", 0o644);
    let refused = people(&second, &["import", "/etc/nunbird/list"]);
    assert!(refused.exit == Exit::Code(4) && refused.stderr.contains("/etc/nunbird/list:2:1"), "{refused:?}");
    assert!(refused.stderr.contains("user 42 here, not to 77"), "{refused:?}");
    assert_eq!(files(&second), before);
    let replaced = people(&second, &["import", "--replace", "/etc/nunbird/list"]).success();
    assert_eq!(replaced, "1 added, 1 replaced");
    assert_admitted(&second, &config(&second, "alice", 77), "alice");

    // Forgotten on one server, the account is free there and stays as it is elsewhere.
    let said = people(&world, &["forget", "alice", "--server", &server]).success();
    assert_eq!(said, format!("forgot alice on {server}: GitLab user 42"));
    assert_admitted(&world, &config(&world, "alice", 99), "alice");
    assert!(files(&world).contains(&("other:alice".to_owned(), "alice other 7\n".to_owned())));
    assert_eq!(people(&world, &["forget", "nobody-here"]).exit, Exit::Code(1));
}

#[needs(root)]
fn an_import_that_the_disk_cannot_hold_leaves_all_as_it_was() {
    let world = world(Privilege::Setuid);
    let small = Small::at(world.root().join("small"));
    world.write_file("/etc/nunbird/list", "alice main 1\nbob main 2\n", "root", 0o644);
    let mut spec = world.program(
        "root",
        world.paths().bin.join("nunbirdctl"),
        &["people", "import", "/etc/nunbird/list"],
    );
    let mount = Mount::Bind { source: small.0.clone(), target: "/var/lib/nunbird/people".into() };
    spec.mounts.as_mut().expect("a namespace").push(mount);
    let done = world.run(&spec);
    assert_eq!(done.exit, Exit::Code(1), "{done:?}");
    assert!(done.stderr.contains("No space left"), "{done:?}");
    let left: Vec<_> =
        fs::read_dir(&small.0).expect("a directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, [".filler"]);
}

#[needs(root)]
fn explain_check_and_doctor_say_of_pins_what_the_program_says() {
    let world = world(Privilege::Setuid);
    let server = server(&world);
    assert_admitted(&world, &config(&world, "alice", 42), "alice");
    let ctl = |account: &str, arguments: &[&str]| {
        world.run(&world.program(account, world.paths().bin.join("nunbirdctl"), arguments))
    };
    let explain = |account: &str, user_id: &str| {
        let claims = format!("{{\"user_login\":\"alice\",\"project_path\":\"physics/lattice\"{user_id}}}");
        world.write_file("/tmp/claims.json", claims, "root", 0o644);
        ctl(account, &["explain", "--claims", "/tmp/claims.json", "--runner-user", "nbt_runner"])
    };
    assert_eq!(explain("root", ",\"user_id\":42").exit, Exit::Code(0));
    let denied = explain("root", ",\"user_id\":77");
    assert_eq!(denied.exit, Exit::Code(4), "{denied:?}");
    assert!(denied.stdout.contains("belongs to GitLab user id 42"), "{denied:?}");
    let partly = explain("root", "");
    assert!(
        partly.exit == Exit::Code(0)
            && partly.stdout.contains("is bound to this user: the claims have no user_id"),
        "{partly:?}"
    );
    let blind = explain("bob", ",\"user_id\":77");
    let assumed = "assumed, not checked: whether `alice` is bound to GitLab user 77: only root reads the list of people";
    assert!(blind.exit == Exit::Code(0) && blind.stdout.contains(assumed), "{blind:?}");
    // A test of the policy does not depend on the bindings of this host.
    let test = |pinned: &str, expect: &str| {
        format!(
            "[[test]]\nname = \"t{pinned}{expect}\"\nclaims = {{ user_login = \"alice\", project_path = \"physics/lattice\", user_id = 77 }}\n{pinned}\nexpect = \"{expect}\"\n"
        )
    };
    let plain = world.configuration();
    let tests = [test("", "alice"), test("pinned = 77", "alice"), test("pinned = 42", "deny")].concat();
    world.configure(&format!("{plain}\n{tests}"));
    let tested = ctl("root", &["test"]);
    assert!(tested.exit == Exit::Code(0) && tested.stdout.contains("3 passed"), "{tested:?}");
    let check = || ctl("root", &["check", "--runner-user", "nbt_runner"]).stdout;
    assert!(!check().contains("unpinned") && !check().contains("nunbird/people"), "{}", check());
    world.configure(&plain.replace("[audit]", "[accounts]\npinning = \"off\"\n[audit]"));
    assert!(check().contains("remark[unpinned]"), "{}", check());
    world.configure(&plain.replace("[audit]", "[accounts]\npeople_file = \"/etc/nunbird/people\"\n[audit]"));
    assert!(check().contains("error[people]"), "{}", check());
    world.write_file("/etc/nunbird/people", format!("alice {server} 1\nalice {server}\n"), "root", 0o644);
    assert!(check().contains(&format!("/etc/nunbird/people:2:{}", 7 + server.len())), "{}", check());
    world.write_file("/etc/nunbird/people", "alice elsewhere 1\n", "root", 0o644);
    assert!(check().contains("`elsewhere` is not a server"), "{}", check());
    fs::set_permissions(store(&world), fs::Permissions::from_mode(0o755)).expect("a mode");
    assert!(check().contains("/var/lib/nunbird/people: owned by uid 0, mode 0755"), "{}", check());
}

#[needs(root)]
fn a_runner_without_privilege_remembers_in_its_own_home() {
    let world = world(Privilege::None);
    let login = world.runner().name.clone();
    assert_admitted(&world, &config(&world, &login, 42), &login);
    let own = world.host_path(&world.runner().home).join(".local/state/nunbird/people");
    let names: Vec<_> = fs::read_dir(&own).expect("the store").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 1);
    assert_another(&world, &config(&world, &login, 77), 42, 77);
    let spec = world.program(&login, world.paths().bin.join("nunbirdctl"), &["people", "forget", &login]);
    world.run(&spec).success();
    assert_admitted(&world, &config(&world, &login, 77), &login);
}

//! Stages in a container of Podman, without a registry: what a script sees and leaves, and what is reported of it.

use crate::container_world::{AccountIds, EVERY, IMAGE, container, engine, import, left, prepared, world};
use crate::world::{BUILD_FAILURE, SYSTEM_FAILURE, World, assert_code, err, out};
use nunbird_handover::{Bind, Engine, PullPolicy};
use nunbird_skip::needs;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[needs(root, in_each = EVERY)]
fn a_job_runs_in_its_container_as_its_account_and_leaves_nothing(ids: AccountIds) {
    let mut world = prepared(ids);
    let uid = world.handover.account.uid;
    let builds = world.handover.workspace.builds_dir.clone();
    let output = world.run(
        "id -u; id -g; pwd; touch made; echo $HOME $NUNBIRD_STAGE; ls /bin/busybox; ls -A ~; ls /etc/debian_version; exit 0",
    );
    assert_code(&output, 0);
    let shown = format!(
        "{uid}\n{uid}\n{}\n{} build_script\n/bin/busybox\n.nunbird\n",
        builds.display(),
        world.home().display()
    );
    assert_eq!(out(&output), shown, "{}", err(&output));
    assert_eq!(fs::metadata(builds.join("made")).expect("a file").uid(), uid);
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
    assert!(builds.join("made").exists());
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn the_log_says_which_engine_image_and_digest_and_why_there_is_one_id() {
    for (ids, has) in [(AccountIds::Many, false), (AccountIds::One, true)] {
        let mut world = world(ids);
        import(&mut world, IMAGE, &[], ":");
        let output = world.prepare();
        assert_code(&output, 0);
        let text = out(&output);
        assert!(text.contains(&format!("in a container of Podman: image {IMAGE} (sha256:")), "{text}");
        assert_eq!(text.contains("one user id, because the account has no subordinate ids"), has, "{text}");
        assert_code(&world.cleanup(), 0);
    }
}

#[needs(root)]
fn exit_codes_and_signals_are_those_of_the_script_whatever_the_engine_means_by_them() {
    let mut world = prepared(AccountIds::Many);
    for code in [0, 1, 2, 75, 125, 126, 127, 137, 255] {
        assert_code(&world.run(format!("exit {code}\n")), if code == 0 { 0 } else { BUILD_FAILURE });
        assert_eq!(world.exit_code(), format!("{}\n", code.max(1)));
    }
    for (signal, code) in [("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
        assert_code(&world.run(format!("kill -{signal} $$; sleep 5\n")), BUILD_FAILURE);
        assert_eq!(world.exit_code(), format!("{code}\n"), "{signal}");
    }
    assert_code(&world.run("if then fi\n"), BUILD_FAILURE);
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_script_reads_nothing_from_standard_input_and_may_be_long() {
    let mut world = prepared(AccountIds::Many);
    let long = format!("x={}\necho ${{#x}}\ncat; read y || echo end\nexit 3\n", "a".repeat(5 << 20));
    let output = world.run(long);
    assert_code(&output, BUILD_FAILURE);
    assert_eq!((out(&output), world.exit_code()), (format!("{}\nend\n", 5 << 20), "3\n".to_owned()));
    let output =
        world.run("i=0; while [ $i -lt 20000 ]; do echo line $i; echo err $i >&2; i=$((i+1)); done; exit 0");
    assert_code(&output, 0);
    assert!(out(&output).ends_with("line 19999\n") && out(&output).lines().count() == 20000);
    assert!(err(&output).ends_with("err 19999\n") && err(&output).lines().count() == 20000);
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_secret_of_the_script_is_in_no_argument_and_nowhere_in_the_engines_files() {
    let mut world = prepared(AccountIds::Many);
    let secret = format!("hidden{}word", std::process::id());
    let running = world
        .start_stage("build_script", format!("TOKEN={secret}; export TOKEN\necho ready\nsleep 600 & wait\n"));
    let ready = running.ready();
    let look = || {
        let mut seen = 0;
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&secret);
            assert!(!has(&read("cmdline")), "{:?}", entry.path());
            // The script's own children have it; the engine's processes do not.
            if has(&read("environ")) {
                assert!(String::from_utf8_lossy(&read("cmdline")).starts_with("sleep"), "{:?}", entry.path());
                seen += 1;
            }
        }
        seen
    };
    // The shell has said that it is ready, and starts the child now.
    let begun = std::time::Instant::now();
    while look() == 0 {
        assert!(begun.elapsed().as_secs() < 20, "the script's child does not have its variable");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for directory in [
        world.path("store"),
        world.handover.workspace.data_dir.join("containers"),
        runtime(&world.handover.decision_id),
    ] {
        let found = std::process::Command::new("grep")
            .args(["-rlsaF", &secret])
            .arg(&directory)
            .output()
            .expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{}", directory.display());
    }
    ready.signal(nix::sys::signal::Signal::SIGTERM);
    ready.finish();
    assert_code(&world.cleanup(), 0);
}

fn runtime(decision: &str) -> std::path::PathBuf {
    format!("/tmp/nb-{decision}").into()
}

#[needs(root)]
fn one_container_lives_for_all_stages_and_a_stage_outside_does_not_see_it() {
    let mut world = prepared(AccountIds::Many);
    assert_code(&world.run("echo of the first >/tmp/kept; sleep 700 & exit 0"), 0);
    let output =
        world.start_stage("after_script", "cat /tmp/kept; ps | grep -c '[s]leep 700'; exit 0").finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "of the first\n1\n", "{}", err(&output));
    let output = world.start_stage("get_sources", "ls /etc/debian_version; ls /tmp/kept; exit 0").finish();
    assert_eq!(out(&output), "/etc/debian_version\n");
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn the_images_entrypoint_runs_the_shell_unless_the_job_says_none() {
    let mut world = world(AccountIds::Many);
    import(&mut world, IMAGE, &["ENTRYPOINT [\"/bin/env\", \"FROM=image\"]"], ":");
    let run = |world: &mut crate::world::World, entrypoint: Option<&[&str]>| {
        let words = entrypoint.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        container(world).image.as_mut().expect("an image").entrypoint = words;
        let output = world.run("echo $FROM; exit 0");
        assert_code(&output, 0);
        out(&output)
    };
    assert_code(&world.prepare(), 0);
    assert_eq!(run(&mut world, None), "image\n");
    assert_eq!(run(&mut world, Some(&[""])), "\n");
    // A control character that marks a variable of the outer script in our own words.
    let job = "a job's \u{1}name\u{1} {uid}";
    assert_eq!(run(&mut world, Some(&["/bin/env", &format!("FROM={job}")])), format!("{job}\n"));
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn an_entrypoint_that_does_not_run_the_shell_is_reported_and_never_a_success() {
    let mut world = prepared(AccountIds::Many);
    for (entrypoint, said) in [
        (&["/bin/true"][..], "entrypoint has not run the shell"),
        (&["/bin/false"], "entrypoint has not run the shell"),
        (&["/no/such"], "a program is missing in the image"),
        (&["--privileged"], "a program is missing in the image"),
    ] {
        let words = entrypoint.iter().map(|word| (*word).to_owned()).collect();
        container(&mut world).image.as_mut().expect("an image").entrypoint = Some(words);
        let output = world.run("exit 0");
        assert_code(&output, SYSTEM_FAILURE);
        assert!(err(&output).contains(said), "{entrypoint:?}: {}", err(&output));
    }
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_hostile_image_changes_neither_who_the_script_is_nor_what_it_sees() {
    let mut world = world(AccountIds::Many);
    let builds = world.handover.workspace.builds_dir.clone();
    let volume = format!("VOLUME {}/sub", builds.display());
    let instructions = [
        "USER 33:33",
        &volume,
        "ENV LD_PRELOAD=/nowhere.so",
        "ENV PATH=/nowhere",
        "ENV NUNBIRD_STAGE=x",
        "WORKDIR /nowhere",
        "CMD [\"/no\"]",
    ];
    import(&mut world, IMAGE, &instructions, ":");
    assert_code(&world.prepare(), 0);
    world.mkdir(&builds.join("sub"), 0o700);
    world.write(&builds.join("sub/file"), "of the job\n");
    let output = world.run("id -u; cat sub/file; pwd; echo $NUNBIRD_STAGE; exit 0");
    assert_code(&output, 0);
    let uid = world.handover.account.uid;
    assert_eq!(
        out(&output),
        format!("{uid}\nof the job\n{}\nbuild_script\n", builds.display()),
        "{}",
        err(&output)
    );
    assert_code(&world.cleanup(), 0);
}

/// Shell commands that put programs of this host, with their libraries, into an image's tree.
fn with_programs(programs: &[(&str, &str)]) -> String {
    let copy = |(from, to): &(&str, &str)| {
        format!(
            "rm -f {to}; cp -L {from} {to}; for lib in $(ldd {from} | grep -o '/[^ ]*'); do mkdir -p .$(dirname $lib); cp -L $lib .$lib; done"
        )
    };
    programs.iter().map(copy).collect::<Vec<_>>().join("; ")
}

#[needs(root)]
fn bash_runs_the_script_where_the_image_has_it_and_else_sh_even_without_a_path() {
    let mut world = world(AccountIds::Many);
    let change =
        with_programs(&[("/bin/dash", "bin/sh"), ("/bin/cat", "bin/cat"), ("/bin/bash", "bin/bash")]);
    import(&mut world, IMAGE, &[], &change);
    assert_code(&world.prepare(), 0);
    let output = world.run("a=(x y); echo ${a[1]}; read -r z; return 7 2>/dev/null; exit 0");
    assert_code(&output, 0);
    assert_eq!(out(&output), "y\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
    // dash has no commands of its own to read a script with.
    let change = with_programs(&[("/bin/dash", "bin/sh"), ("/bin/cat", "bin/cat")]);
    import(&mut world, IMAGE, &["ENV PATH=/nowhere", "ENV LD_PRELOAD=/nowhere.so"], &change);
    assert_code(&world.prepare(), 0);
    let output = world.run("echo $PATH; exit 0");
    assert_code(&output, 0);
    assert_eq!(out(&output), "/nowhere:/usr/local/bin:/usr/bin:/bin\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn an_image_without_a_shell_and_a_name_that_is_none_are_the_jobs_own_failure() {
    let mut world = world(AccountIds::Many);
    import(&mut world, IMAGE, &[], "rm bin/sh");
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("it has no /bin/sh"), "{}", err(&output));
    // The number of a machine in an executable's head (elf(5), e_machine): AArch64, or else x86-64.
    let other = if cfg!(target_arch = "aarch64") { "\\076\\000" } else { "\\267\\000" };
    let change = format!(
        "rm bin/sh; cp bin/busybox bin/sh; printf '{other}' | dd of=bin/sh bs=1 seek=18 conv=notrunc status=none"
    );
    import(&mut world, IMAGE, &[], &change);
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("for another kind of machine"), "{}", err(&output));
    for (name, said) in [
        ("--privileged", "begins with `-`"),
        ("/etc/passwd", "takes none"),
        ("a b", "spaces"),
        ("docker-daemon://x", "takes no names"),
        ("localhost/nbt/other:1", "pull policy `never`"),
    ] {
        container(&mut world).image.as_mut().expect("an image").name = name.to_owned();
        let output = world.prepare();
        assert_code(&output, BUILD_FAILURE);
        assert!(err(&output).contains(said), "{name}: {}", err(&output));
    }
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn a_registry_that_does_not_answer_is_no_failure_of_the_jobs_and_a_copy_serves_if_the_policy_says_so() {
    let mut world = world(AccountIds::Many);
    import(&mut world, "127.0.0.1:1/nbt/busybox:1", &[], ":");
    let image = container(&mut world).image.as_mut().expect("an image");
    image.name = "127.0.0.1:1/nbt/busybox:1".to_owned();
    image.pull = vec![PullPolicy::Always];
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("the registry does not answer"), "{}", err(&output));
    container(&mut world).image.as_mut().expect("an image").pull =
        vec![PullPolicy::Always, PullPolicy::IfNotPresent];
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(out(&output).contains("trying the next pull policy"), "{}", out(&output));
    container(&mut world).image.as_mut().expect("an image").digest_required = true;
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("127.0.0.1:1/nbt/busybox@sha256:"), "{}", err(&output));
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn the_container_has_the_sites_variables_and_binds_and_nothing_else_of_the_host() {
    let mut world = world(AccountIds::Many);
    let shared = world.path("shared");
    world.mkdir(&shared, 0o755);
    world.write(&shared.join("data"), "shared\n");
    world.write(&world.home().join("private"), "private\n");
    for (name, value) in [("SITE", "it's \"$HOME\"\n2"), ("LD_LIBRARY_PATH", "/host"), ("PATH", "/host")] {
        world.handover.environment.insert(name.to_owned(), value.to_owned());
    }
    let bind = |target: &str, writable, optional| Bind {
        source: if optional { "/no/such/place".into() } else { shared.clone() },
        target: target.into(),
        writable,
        optional,
    };
    container(&mut world).binds =
        vec![bind("/shared", false, false), bind("/rw/deep", true, false), bind("/opt/none", true, true)];
    import(&mut world, IMAGE, &[], ":");
    assert_code(&world.prepare(), 0);
    let output = world.run(
        "echo \"$SITE\"; echo \"${LD_LIBRARY_PATH-none}\"; echo $PATH; cat /shared/data; touch /shared/x; touch /rw/deep/y; ls /opt; ls -A ~ /home 2>&1; exit 0",
    );
    assert_code(&output, 0);
    let text = out(&output);
    assert!(text.starts_with("it's \"$HOME\"\n2\nnone\n/usr/local/sbin:"), "{text}");
    assert!(
        text.contains("\nshared\n") && !text.contains("private") && !text.contains("none\nnone"),
        "{text}"
    );
    assert!(err(&output).contains("Read-only file system"), "{}", err(&output));
    assert!(shared.join("y").exists() && !shared.join("x").exists());
    assert_code(&world.cleanup(), 0);

    container(&mut world).home = true;
    assert_code(&world.prepare(), 0);
    let output = world.run("cat ~/private; touch ~/made; exit 0");
    assert_eq!(out(&output), "private\n", "{}", err(&output));
    assert_eq!(fs::metadata(world.home().join("made")).expect("a file").uid(), world.handover.account.uid);
    assert_code(&world.cleanup(), 0);
    container(&mut world).binds = vec![Bind { source: "/no/such/place".into(), ..bind("/x", true, false) }];
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("/no/such/place") && err(&output).contains("optional"), "{}", err(&output));
    assert_code(&world.cleanup(), 0);
}

#[needs(root, in_each = EVERY)]
fn root_in_the_container_is_the_account_outside(ids: AccountIds) {
    let mut world = world(ids);
    container(&mut world).root = true;
    import(&mut world, IMAGE, &[], ":");
    assert_code(&world.prepare(), 0);
    let output = world.run("id -u; touch made; chmod 600 /etc/passwd; exit 0");
    assert_code(&output, 0);
    assert_eq!(out(&output), "0\n", "{}", err(&output));
    let made = world.handover.workspace.builds_dir.join("made");
    assert_eq!(fs::metadata(made).expect("a file").uid(), world.handover.account.uid);
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn what_an_image_writes_beside_its_record_runs_nowhere_outside() {
    let mut world = prepared(AccountIds::Many);
    let directory = container(&mut world).directory.clone();
    let output = world.run(format!(
        "ls {0}; echo 'touch /tmp/x' >{0}/outer; ls -d {0}/inside; exit 0",
        directory.display()
    ));
    assert_code(&output, 0);
    assert_eq!(out(&output), format!("inside\n{}/inside\n", directory.display()), "{}", err(&output));
    let script = fs::read_to_string(directory.join("outer")).expect("a script");
    assert!(script.starts_with("#!/bin/sh\n# Nunbird's outer script"), "{script}");
    assert_eq!(fs::metadata(directory.join("outer")).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_record_of_another_stage_and_a_killed_container_are_no_success() {
    let mut world = prepared(AccountIds::Many);
    let inside = container(&mut world).directory.join("inside");
    assert_code(&world.run("exit 0"), 0);
    let output = world
        .run(format!("echo ready; cp() {{ :; }}; kill -9 $PPID; sleep 1; exit 0 # {}", inside.display()));
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("ended in its container without a result"), "{}", err(&output));
    let forged = format!(
        "printf 'code 0\\nbegun yes\\nend 0\\n' >{}/record; kill -9 $PPID; sleep 1",
        inside.display()
    );
    assert_code(&world.run(forged), SYSTEM_FAILURE);
    let running = world.start_stage("build_script", "echo ready; sleep 600 & wait");
    let ready = running.ready();
    let name = format!("nb-{}", world.handover.decision_id);
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        // The container's first process.
        if line.contains("sleep 2147483647 &")
            && fs::read_to_string(entry.path().join("cgroup")).is_ok()
            && owner_is(&entry.path(), &world)
        {
            let pid = entry.file_name().to_string_lossy().parse().expect("a number");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
                .expect("kill");
        }
    }
    let output = ready.finish();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("were killed"), "{name}: {}", err(&output));
    // The next stage starts it again, with the files that it had.
    assert_code(&world.run("exit 0"), 0);
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

fn owner_is(process: &std::path::Path, world: &crate::world::World) -> bool {
    let links = [process.join("root"), process.join("mountinfo")];
    let mounts = fs::read_to_string(&links[1]).unwrap_or_default();
    mounts.contains(&world.handover.workspace.builds_dir.display().to_string())
}

/// An engine without images and without a container between stages, by a description of the site's.
const PRIVATE_VIEW: &str = r#"
title = "Bubblewrap"
program = "bwrap"
[images]
kind = "none"
[enter]
command = ["{program}", "--unshare-pid", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--dev", "/dev", "--proc", "/proc", "{binds}", "{options}"]
[words]
bind = ["--bind", "{source}", "{target}"]
bind_read_only = ["--ro-bind", "{source}", "{target}"]
"#;

#[needs(root)]
fn a_site_describes_an_engine_without_images_which_starts_anew_for_each_stage() {
    let mut world = world(AccountIds::One);
    let file = world.path("engine.toml");
    fs::write(&file, PRIVATE_VIEW).expect("a file");
    let of = container(&mut world);
    of.engine = Engine::Described(file.clone());
    of.image = None;
    of.options = vec!["--setenv".to_owned(), "OPTION".to_owned(), "a b".to_owned()];
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(out(&output).ends_with("in a container of Bubblewrap\n"), "{}", out(&output));
    world.write(&world.home().join("private"), "private\n");
    let output =
        world.run("ls -A /tmp | wc -l; ls ~/private; echo $OPTION; touch made /tmp/x; read x; exit 42");
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(
        (out(&output), world.exit_code()),
        ("1\na b\n".to_owned(), "42\n".to_owned()),
        "{}",
        err(&output)
    );
    assert!(world.handover.workspace.builds_dir.join("made").exists());
    let ready = world
        .start_stage("build_script", "trap 'echo asked; exit 5' TERM; echo ready; sleep 600 & wait")
        .ready();
    ready.signal(nix::sys::signal::Signal::SIGTERM);
    let output = ready.finish();

    assert_code(&output, BUILD_FAILURE);
    assert_eq!(out(&output), "asked\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("a mode");
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("not writable by anybody else"), "{}", err(&output));
}

#[needs(root)]
fn the_accounts_own_containers_are_left_alone() {
    let mut world = prepared(AccountIds::Many);
    let output = engine(
        &mut world,
        "export XDG_DATA_HOME=$HOME/own; podman import -q ../image.tar localhost/own; \
         podman run -d --name mine --network=host localhost/own sleep 900; podman container inspect --format {{.State.Running}} mine",
    );
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("true\n"), "{output:?}");
    assert_code(&world.run("exit 0"), 0);
    assert_code(&world.cleanup(), 0);
    let alive = std::process::Command::new("pgrep").args(["-f", "sleep 900"]).output().expect("pgrep");
    let pids = String::from_utf8_lossy(&alive.stdout).into_owned();
    let own: Vec<&str> =
        pids.lines().filter(|pid| owner_of(pid) == Some(world.handover.account.uid)).collect();
    assert!(!own.is_empty(), "{pids}");
    let output = engine(&mut world, "export XDG_DATA_HOME=$HOME/own; podman rm -f -t 0 mine");
    assert!(output.status.success(), "{output:?}");
}

fn owner_of(pid: &str) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

#[needs(root, in_each = EVERY)]
fn the_least_recently_used_images_leave_the_store_and_those_of_running_jobs_stay(ids: AccountIds) {
    const OTHER: &str = "localhost/nbt/other:1";
    let mut world = world(ids);
    for name in [IMAGE, OTHER] {
        import(&mut world, name, &[], ":");
    }
    let bounds = &mut container(&mut world).cache_bounds;
    bounds.max_count = Some(1);
    let images = |world: &mut World| {
        let text =
            out(&engine(world, "{program} {storage} images --noheading --format '{{.Repository}}:{{.Tag}}'"));
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_code(&world.prepare(), 0);
    assert_code(&world.cleanup(), 0);
    assert_eq!(images(&mut world), [IMAGE, OTHER], "nothing is known of the other image yet");

    // A job of the account that has not been cleaned up.
    let other_job = container(&mut world).directory.with_file_name("other");
    let kept = other_job.join("image");
    let mine = container(&mut world).directory.join("image");
    assert_code(&world.prepare(), 0);
    fs::create_dir(&other_job).expect("a directory");
    fs::copy(&mine, &kept).expect("a copy");
    assert_code(&world.cleanup(), 0);
    container(&mut world).image.as_mut().expect("an image").name = OTHER.to_owned();
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(out(&output).contains("not known which images other jobs use"), "it is root's: {}", out(&output));
    let uid = world.handover.account.uid;
    for path in [&other_job, &kept] {
        std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("an owner");
    }
    assert_code(&world.cleanup(), 0);
    assert_code(&world.prepare(), 0);
    assert_code(&world.cleanup(), 0);
    assert_eq!(images(&mut world), [IMAGE, OTHER], "it may still run");

    fs::remove_dir_all(&other_job).expect("removed");
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(
        out(&output).contains(&format!("removed the image {IMAGE}, by the site's bounds")),
        "{}",
        out(&output)
    );
    assert_code(&world.run("exit 0"), 0);
    assert_code(&world.cleanup(), 0);
    assert_eq!(images(&mut world), [OTHER]);
}

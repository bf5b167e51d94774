//! Services of a job in containers of Podman, beside the job's own.

use crate::container_world::{AccountIds, EVERY, IMAGE, container, import, left, world};
use crate::world::{BUILD_FAILURE, World, assert_code, err, out};
use nix::sys::signal::Signal;
use nunbird_handover::{Engine, Image, Service};
use nunbird_skip::needs;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const SERVER: &str = "localhost/nbt/server:1";
/// A web server that answers `/` with `served`, on port 18080.
const HTTPD: &[&str] = &["/bin/httpd", "-f", "-p", "18080", "-h", "/www"];

fn service(aliases: &[&str], command: &[&str], ports: &[u16]) -> Service {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Service {
        image: Image {
            name: SERVER.to_owned(),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![nunbird_handover::PullPolicy::Never],
            digest_required: false,
        },
        aliases: words(aliases),
        command: (!command.is_empty()).then(|| words(command)),
        variables: BTreeMap::new(),
        ports: ports.to_vec(),
    }
}

fn shell(aliases: &[&str], script: &str, ports: &[u16]) -> Service {
    service(aliases, &["/bin/sh", "-c", script], ports)
}

/// A world with these services, whose images are there.
fn with(ids: AccountIds, services: Vec<Service>) -> World {
    let mut world = world(ids);
    let change = "for name in awk httpd wget yes hostname seq dd tail; do ln -s busybox bin/$name; done; mkdir www; echo served >www/index.html; chmod -R a+rX .";
    import(&mut world, IMAGE, &[], change);
    let instructions = [
        "EXPOSE 18080/tcp",
        "CMD [\"/bin/httpd\",\"-f\",\"-p\",\"18080\",\"-h\",\"/www\"]",
        "ENV FROM=image",
    ];
    import(&mut world, SERVER, &instructions, change);
    container(&mut world).services = services;
    world
}

fn prepared(ids: AccountIds, services: Vec<Service>) -> World {
    let mut world = with(ids, services);
    assert_code(&world.prepare(), 0);
    world
}

fn finish(mut world: World) {
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

/// Whether somebody on this host reaches a port of its loopback.
fn reaches(uid: u32, port: u16) -> Output {
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
    let script = format!(
        "for a in 127.0.0.1 ::1 $(hostname -I); do if exec 3<>/dev/tcp/$a/{port}; then echo reached $a; fi; done"
    );
    Command::new("setpriv")
        .args(ids)
        .args(["--clear-groups", "bash", "-c", &script])
        .output()
        .expect("setpriv")
}

#[needs(root, in_each = EVERY)]
fn a_service_is_reached_by_its_names_from_the_job_and_from_others_and_by_nobody_else(ids: AccountIds) {
    let other = shell(
        &["other"],
        "until wget -qO /tmp/got http://web:18080/; do sleep 1; done; httpd -f -p 18081 -h /tmp",
        &[18081],
    );
    let mut world = with(ids, vec![service(&["web", "web.example.org", "nbt__server"], &[], &[]), other]);
    let output = world.prepare();
    assert_code(&output, 0);
    let text = out(&output);
    for said in [
        &format!("service web: image {SERVER} (sha256:"),
        "the service web listens after",
        "the service other listens after",
        "its own network, not the one of this host",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let ask = "for name in web web.example.org nbt__server localhost; do wget -qO- http://$name:18080/; done; wget -qO- http://other:18081/got; \
               hostname | wget -qO- http://$(hostname):18080/; exit 0";
    for stage in ["build_script", "after_script"] {
        let output = world.start_stage(stage, ask).finish();
        assert_code(&output, 0);
        assert_eq!(out(&output), "served\n".repeat(6), "{}", err(&output));
    }
    // The account itself, in a stage on the host, and somebody else.
    let output = world
        .start_stage("get_sources", "(exec 3<>/dev/tcp/127.0.0.1/18080) 2>/dev/null && echo reached; exit 0")
        .finish();
    assert_eq!(out(&output), "", "{}", err(&output));
    assert_eq!(out(&reaches(65531, 18080)), "");
    finish(world);
}

#[needs(root)]
fn where_the_engine_can_connect_the_network_it_leads_out_and_nobody_in() {
    let mut world = with(AccountIds::Many, vec![service(&["web"], &[], &[])]);
    // As udev makes it where sites have not closed it.
    let tun = world.path("tun");
    let open = format!(
        "; mknod -m 666 {0} c 10 200; mkdir -p /dev/net; touch /dev/net/tun; mount --bind {0} /dev/net/tun",
        tun.display()
    );
    world.mounts.as_mut().expect("mounts").push_str(&open);
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(!out(&output).contains("nothing outside"), "{}", out(&output));
    world.mounts = world.mounts.take().map(|mounts| mounts.replace(&open, ""));
    let output = world.run("wget -qO- http://web:18080/; grep -c tap0 /proc/net/route; exit 0");
    assert_code(&output, 0);
    assert!(out(&output).starts_with("served\n") && !out(&output).ends_with("\n0\n"), "{}", out(&output));
    assert_eq!(out(&reaches(65531, 18080)), "");
    finish(world);
    let mut alone = with(AccountIds::Many, vec![service(&["web"], &[], &[])]);
    // No device that makes networks.
    alone
        .mounts
        .as_mut()
        .expect("mounts")
        .push_str("; mkdir -p /dev/net; touch /dev/net/tun; mount --bind /dev/null /dev/net/tun");
    let output = alone.prepare();
    assert_code(&output, 0);
    assert!(
        out(&output).contains("warning: nothing outside of the container is reached"),
        "{}",
        out(&output)
    );
    finish(alone);
}

#[needs(root)]
fn the_port_that_others_cannot_reach_is_reached_where_it_is_on_the_host() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    assert_eq!(out(&reaches(65531, port)), "reached 127.0.0.1\n");
}

#[needs(root, in_each = EVERY)]
fn entrypoint_command_and_variables_are_the_jobs_and_in_no_argument(ids: AccountIds) {
    let secret = format!("covered{}word", std::process::id());
    let mut one = shell(&["vars"], "unused", &[18082]);
    one.image.entrypoint =
        Some(vec!["/bin/env".to_owned(), "WORD=it's {uid} \u{1}r\u{1} \"$(id)\"".to_owned()]);
    let script = "mkdir /tmp/w; cd /tmp/w; printf '%s|' \"$0\" \"$FROM\" \"$WORD\" \"$PLAIN\" \"$LINES_\" \"$QUOTED\" \"$LD_PRELOAD\" \"$PATH\" \"$EMPTY-\" \"${SECRET#covered}\" >all; \
                  exec httpd -f -p 18082 -h /tmp/w";
    one.command = Some(["/bin/sh", "-c", script, "{gid} \u{1}d\u{1}"].map(str::to_owned).to_vec());
    for (name, value) in [
        ("FROM", "job"),
        ("PLAIN", "a=b  c$HOME *"),
        ("LINES_", "1\n2\n"),
        ("QUOTED", " \"q\" 'r' \\ #"),
        ("LD_PRELOAD", "/no/such.so"),
        ("PATH", "/bin"),
        ("EMPTY", ""),
        ("SECRET", &secret),
        ("not a name", "x"),
    ] {
        one.variables.insert(name.to_owned(), value.to_owned());
    }
    let mut world = with(ids, vec![one]);
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(!format!("{}{}", out(&output), err(&output)).contains("such.so"), "{}", err(&output));
    let mut seen = 0;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&secret);
        assert!(!has(&read("cmdline")), "{:?}", entry.path());
        if has(&read("environ")) {
            assert!(String::from_utf8_lossy(&read("cmdline")).starts_with("httpd"), "{:?}", entry.path());
            seen += 1;
        }
    }
    assert!(seen > 0);
    let output = world.run("wget -qO- http://vars:18082/all; exit 0");
    assert_code(&output, 0);
    let rest = secret.strip_prefix("covered").expect("its beginning");
    let expected = format!(
        "{{gid}} \u{1}d\u{1}|job|it's {{uid}} \u{1}r\u{1} \"$(id)\"|a=b  c$HOME *|1\n2\n| \"q\" 'r' \\ #|/no/such.so|/bin|-|{rest}|"
    );
    assert_eq!(out(&output), expected, "{}", err(&output));
    assert!(!world.handover.workspace.data_dir.join("containers/4711/service-variables").exists());
    finish(world);
}

#[needs(root)]
fn a_service_that_never_listens_fails_the_job_after_its_time_with_its_last_words() {
    let mut world = with(
        AccountIds::Many,
        vec![
            service(&["web"], HTTPD, &[]),
            shell(&["deaf"], "echo 'starting \u{1b}[31mred'; echo oops >&2; sleep 60", &[18090, 18091]),
        ],
    );
    // Time for the first one on a busy machine.
    container(&mut world).service_timeout = 8;
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    let (text, errors) = (out(&output), err(&output));
    assert!(text.contains("the service web listens"), "{text}");
    assert!(text.contains("[deaf] starting [31mred\n") && text.contains("[deaf] oops\n"), "{text}");
    assert!(errors.contains("the service deaf does not listen on port 18090 or 18091 after 8 s"), "{errors}");
    assert!(errors.contains("HEALTHCHECK_TCP_PORT") && errors.contains("[container.plain]"), "{errors}");
    finish(world);
}

#[needs(root)]
fn a_server_that_listens_where_the_job_does_not_reach_it_is_not_ready() {
    // Bound to an address of the loopback network that no name leads to.
    let mut world = with(
        AccountIds::Many,
        vec![service(&["web"], &["/bin/httpd", "-f", "-p", "127.0.0.9:18080", "-h", "/www"], &[])],
    );
    container(&mut world).service_timeout = 1;
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("does not listen on port 18080"), "{}", err(&output));
    finish(world);
}

#[needs(root, in_each = EVERY)]
fn a_service_that_ends_before_it_listens_fails_the_job_at_once(ids: AccountIds) {
    let mut world = with(ids, vec![shell(&["brief"], "echo no data directory; exit 7", &[18090])]);
    container(&mut world).service_timeout = 300;
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(out(&output).contains("[brief] no data directory\n"), "{}", out(&output));
    let expected = "the service brief has ended with exit code 7 before it listened on port 18090; its";
    assert!(err(&output).contains(expected), "{}", err(&output));
    finish(world);
}

#[needs(root)]
fn a_service_that_cannot_be_started_is_reported_with_the_engines_words() {
    let mut world = with(AccountIds::Many, vec![service(&["none"], &["/no/such/program"], &[])]);
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    let errors = err(&output);
    assert!(
        errors.contains("Podman cannot start the service none: ") && errors.contains("/no/such/program"),
        "{errors}"
    );
    container(&mut world).services[0].image.name = "localhost/nbt/missing:1".to_owned();
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    let expected = "cannot start the service none: cannot use the image localhost/nbt/missing:1";
    assert!(err(&output).contains(expected), "{}", err(&output));
    finish(world);
}

/// Words of a job's script that have a service go on which waits by `nc -l`, once it does.
fn meets(service: &str, port: u16) -> String {
    format!("until nc {service} {port} </dev/null; do sleep 0.2; done")
}

/// Words of a job's script that wait for [`go`].
fn until_there(name: &str) -> String {
    format!("until test -e {name}; do sleep 0.1; done")
}

/// Has a job's script go on which waits so.
fn go(world: &World, name: &str) {
    world.write(&world.handover.workspace.builds_dir.join(name), "");
}

#[needs(root)]
fn a_service_that_ends_during_the_job_is_reported_once_and_the_job_goes_on() {
    let script = "httpd -p 18080 -h /www; nc -l -p 18082 >/dev/null; echo last words; exit 3";
    let mut world = prepared(AccountIds::Many, vec![shell(&["web"], script, &[18080])]);
    let script = format!("{}; {}; echo went on; exit 0", meets("web", 18082), until_there("go"));
    let mut stage = world.start_stage("build_script", script).watched();
    stage.wait_for("[web] last words");
    go(&world, "go");
    let output = stage.finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "went on\n");
    let errors = err(&output);
    assert!(errors.contains("nunbird: the service web has ended with exit code 3\n"), "{errors}");
    assert!(errors.contains("[web] last words\n") && !errors.contains("out of memory"), "{errors}");
    let output = world.start_stage("after_script", "exit 0").finish();
    assert_code(&output, 0);
    assert!(!err(&output).contains("has ended"), "{}", err(&output));
    finish(world);
}

#[needs(root)]
fn a_service_that_ends_ends_the_job_where_the_site_says_so_and_is_there_again_for_the_next_stage() {
    let script = "httpd -p 18080 -h /www; [ -e /tmp/again ] || { touch /tmp/again; nc -l -p 18082 >/dev/null; exit 5; }; sleep 600";
    let mut world = with(AccountIds::Many, vec![shell(&["brief"], script, &[18080])]);
    container(&mut world).service_required = true;
    assert_code(&world.prepare(), 0);
    let output = world.run(format!("{}; sleep 600; echo not reached; exit 0", meets("brief", 18082)));
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(out(&output), "");
    let expected = "nunbird: the service brief has ended with exit code 5: the job ends";
    assert!(err(&output).contains(expected), "{}", err(&output));
    let output = world.start_stage("after_script", "wget -qO- http://brief:18080/; exit 0").finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "served\n", "{}", err(&output));
    finish(world);
}

#[needs(root)]
fn two_services_on_one_port_are_reported_before_any_is_started() {
    let mut world = with(
        AccountIds::Many,
        vec![service(&["one"], &[], &[]), service(&["two"], &[], &[18081]), service(&["three"], &[], &[])],
    );
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    let errors = err(&output);
    assert!(errors.contains("the services one and three cannot both have port 18080"), "{errors}");
    assert!(!out(&output).contains("listens"), "{}", out(&output));
    let command = ["/bin/httpd", "-f", "-p", "18082", "-h", "/www"].map(str::to_owned).to_vec();
    let services = &mut container(&mut world).services;
    services.remove(1);
    services[1].command = Some(command);
    services[1].ports = vec![18082];
    assert_code(&world.prepare(), 0);
    finish(world);
}

#[needs(root)]
fn output_of_services_is_shown_when_asked_cleaned_and_bounded() {
    let script = "echo 'hello \u{1b}[2J\u{202e}'; httpd -p 18080 -h /www; nc -l -p 18082 >/dev/null; echo later >&2; yes 0123456789 | head -c 40000000; echo done; sleep 600";
    let mut world = with(AccountIds::Many, vec![shell(&["web"], script, &[18080])]);
    container(&mut world).service_logs = true;
    let output = world.prepare();
    assert_code(&output, 0);
    let text = out(&output);
    assert!(
        text.contains("[web] hello [2J") && !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text}"
    );
    let script = format!("{}; {}; exit 0", meets("web", 18082), until_there("go"));
    let mut stage = world.start_stage("build_script", script).watched();
    stage.wait_for("left out)");
    go(&world, "go");
    let output = stage.finish();
    assert_code(&output, 0);
    let errors = err(&output);
    assert!(errors.contains("[web] ") && errors.contains("left out)"), "{}", errors.len());
    assert!(errors.len() < 3 << 20, "{}", errors.len());
    let log = format!("/tmp/nb-{0}/nb-{0}-s0.log", world.handover.decision_id);
    assert!(fs::metadata(&log).expect("a log").len() < 2 << 20);
    finish(world);
}

#[needs(root)]
fn after_a_job_is_cancelled_its_services_are_there_for_the_next_stage_and_then_gone() {
    let mut world = prepared(AccountIds::Many, vec![service(&["web"], HTTPD, &[])]);
    let ready = world.start_stage("build_script", "echo ready; sleep 60").ready();
    ready.signal(Signal::SIGTERM);
    assert_code(&ready.finish(), BUILD_FAILURE);
    let output = world.start_stage("after_script", "wget -qO- http://web:18080/; exit 0").finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "served\n", "{}", err(&output));
    finish(world);
}

#[needs(root, in_each = EVERY)]
fn a_service_that_forks_without_end_is_gone_with_the_job(ids: AccountIds) {
    let script = "httpd -p 18080 -h /www; while :; do setsid sleep 600 & sleep 0.02; done";
    let mut world = prepared(ids, vec![shell(&["many"], script, &[18080])]);
    let end = Instant::now() + Duration::from_secs(120);
    while left(&world).len() <= 10 {
        assert!(Instant::now() < end, "it does not fork: {:?}", left(&world));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_code(&world.run("exit 0"), 0);
    finish(world);
}

#[needs(root)]
fn a_job_with_services_in_an_engine_without_them_gets_a_message() {
    let mut world = with(AccountIds::Many, vec![service(&["web"], HTTPD, &[])]);
    let text = include_str!("../../../container/src/engines/podman.toml");
    let before = text.find("[services]").expect("a section");
    let after = text.find("[namespace]").expect("a section");
    let file = world.path("engine.toml");
    fs::write(&file, format!("{}{}", &text[..before], &text[after..])).expect("a file");
    container(&mut world).engine = Engine::Described(file);
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(
        err(&output)
            .contains("the job has `services:`, and Podman, which [container.plain] uses, starts none"),
        "{}",
        err(&output)
    );
    container(&mut world).services.clear();
    assert_code(&world.prepare(), 0);
    finish(world);
}

/// A control group with a limit of memory, removed on drop.
struct Limited(std::path::PathBuf);

impl Limited {
    fn new(bytes: u64) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").expect("groups");
        let (own, file) = match own.lines().find_map(|line| line.split_once(":memory:")) {
            Some((_, path)) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            None => {
                fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").expect("a controller");
                ("/sys/fs/cgroup".to_owned(), "memory.max")
            }
        };
        let group = std::path::Path::new(&own).join(format!("nbt_services_{}", std::process::id()));
        fs::create_dir(&group).expect("a control group");
        fs::write(group.join(file), bytes.to_string()).expect("a limit");
        Limited(group)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

#[needs(root)]
fn out_of_memory_is_reported_where_the_control_group_says_so_and_nowhere_else() {
    let limited = Limited::new(400 << 20);
    // Each ends when the job's script connects to it.
    let eater = "httpd -p 18080 -h /www; nc -l -p 18082 >/dev/null; exec awk 'BEGIN { x = \"x\"; while (1) x = x x }'";
    let later = "httpd -p 18081 -h /www; nc -l -p 18083 >/dev/null; exit 137";
    let mut world =
        with(AccountIds::Many, vec![shell(&["eater"], eater, &[18080]), shell(&["later"], later, &[18081])]);
    world.prefix = format!("sh -c 'echo $$ >{}/cgroup.procs; exec \"$@\"' sh", limited.0.display());
    assert_code(&world.prepare(), 0);
    let (eater, later) = (meets("eater", 18082), meets("later", 18083));
    let script = format!(
        "{eater}; {}; {later}; {}; echo still here; exit 0",
        until_there("eaten"),
        until_there("ended")
    );
    let mut stage = world.start_stage("build_script", script).watched();
    stage.wait_for("the service eater has ended");
    go(&world, "eaten");
    stage.wait_for("the service later has ended");
    go(&world, "ended");
    let output = stage.finish();
    assert_code(&output, 0);
    assert_eq!(out(&output), "still here\n", "{}", err(&output));
    let errors = err(&output);
    let of_memory =
        "the service eater has ended with exit code 137 (out of memory: the job has reached its limit)";
    assert!(errors.contains(of_memory), "{errors}");
    assert!(errors.contains("the service later has ended with exit code 137\n"), "{errors}");
    world.prefix.clear();
    finish(world);
}

/// A node of a batch scheduler with another store of the account's, where one stage runs.
fn on_node(world: &World, script: &str) -> Output {
    let nonce = "0123456789abcdef".repeat(2);
    let mut container = world.handover.container.clone().expect("a container");
    let place = world.path("place");
    let store = world.path("node-store");
    if !place.exists() {
        world.mkdir(&place, 0o700);
        world.mkdir(&store, 0o700);
    }
    container.store = Some(store);
    let outer = nunbird_container::write_for_allocation(
        &world.handover,
        &container,
        "build_script",
        &place,
        &nonce,
        1,
    )
    .expect("the scripts");
    world.write(&place.join("script"), script);
    let uid = world.handover.account.uid;
    let text = format!(
        "{}; chown -R {uid}:{uid} {place} {directory}; cd {place}; exec setpriv --reuid={uid} --regid={uid} --clear-groups env -i \
         /bin/sh {} once <script 4>shown",
        world.mounts.as_deref().expect("mounts"),
        outer.display(),
        place = place.display(),
        directory = container.directory.display(),
    );
    Command::new("unshare").args(["-m", "/bin/sh", "-euc", &text]).output().expect("unshare")
}

#[needs(root)]
fn a_stage_in_an_allocation_has_its_services_from_files_and_leaves_none() {
    let mut one = service(&["web"], &[], &[]);
    one.variables.insert("LINES_".to_owned(), "1\n2".to_owned());
    let mut world = with(AccountIds::Many, vec![one]);
    let scheduler = nunbird_handover::Scheduler::Named("slurm".to_owned());
    let batch = nunbird_handover::Batch::new(scheduler, world.handover.workspace.data_dir.join("batch/1"));
    world.handover.batch = Some(batch);
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(!out(&output).contains("listens"), "{}", out(&output));
    let shown = |world: &World| fs::read_to_string(world.path("place/shown")).expect("a file");
    let output = on_node(&world, "wget -qO- http://web:18080/; exit 4");
    assert_eq!(
        (output.status.code(), out(&output), shown(&world)),
        (Some(4), "served\n".to_owned(), "s".to_owned()),
        "{}",
        err(&output)
    );
    assert!(err(&output).contains("the service web listens after"), "{}", err(&output));
    container(&mut world).services[0].command = Some(vec!["/bin/false".to_owned()]);
    let output = on_node(&world, "echo not reached; exit 0");
    assert_eq!(
        (output.status.code(), out(&output).contains("not reached"), shown(&world)),
        (Some(1), false, "s".to_owned()),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("the service web has ended with exit code 1 before it listened"),
        "{}",
        err(&output)
    );
    assert_eq!(fs::read_dir(world.path("node-store/jobs")).expect("a store").count(), 0);
    let temporary = fs::read_dir("/tmp").expect("/tmp").flatten();
    let name = format!("nb-{}-", &world.handover.decision_id[..20]);
    assert!(!temporary.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&name)));
    world.handover.batch = None;
    finish(world);
}

//! Pulls from a real registry on this host.

use crate::container_world::{AccountIds, container, import, left, world};
use crate::world::{BUILD_FAILURE, SYSTEM_FAILURE, World, assert_code, err, out};
use nunbird_handover::{Credential, Credentials, PullPolicy};
use nunbird_skip::needs;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "nbt/busybox:1";

/// Debian's docker-registry, without TLS; ended on drop.
pub(crate) struct Registry {
    process: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Registry {
    /// With these lines of an htpasswd file, or open.
    fn start(world: &World, passwords: Option<&str>) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let auth = match passwords {
            Some(lines) => {
                fs::write(world.path("htpasswd"), lines).expect("a file");
                format!("auth: {{htpasswd: {{realm: nbt, path: {}}}}}\n", world.path("htpasswd").display())
            }
            None => String::new(),
        };
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{auth}",
            world.path("registry").display()
        );
        fs::write(world.path("registry.yml"), text).expect("a file");
        let log = world.path("registry.log");
        let output = fs::File::create(&log).expect("a file");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(world.path("registry.yml"));
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        let registry = Registry { process: command.spawn().expect("docker-registry"), address, log };
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < end, "{}", registry.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// How often a client has fetched a layer: the image's other blob has a few hundred bytes.
    pub(crate) fn layers_fetched(&self) -> usize {
        let log = self.log();
        let fetched = log.lines().filter(|line| line.contains("\"GET /v2/nbt/busybox/blobs/"));
        let size = |line: &str| line.split("HTTP/1.1\" 200 ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        fetched.filter(|line| size(line).is_some_and(|bytes| bytes > 10_000)).count()
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{NAME}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A world whose job wants an image that the registry has, and no other place.
pub(crate) fn published(passwords: Option<&str>, login: &str) -> (World, Registry) {
    let mut world = world(AccountIds::Many);
    let registry = Registry::start(&world, passwords);
    import(&mut world, &registry.name(), &[], ":");
    let archive = world.path("import").join("oci.tar");
    let line = format!(
        "{{program}} {{storage}} save -q --format=oci-archive -o {} {} && {{program}} {{storage}} rmi -f {1}",
        archive.display(),
        registry.name()
    );
    let output = crate::container_world::engine(&mut world, &line);
    assert!(output.status.success(), "{output:?}");
    let mut push = Command::new("skopeo");
    push.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    if !login.is_empty() {
        push.args(["--dest-creds", login]);
    }
    let output = push
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("docker://{}", registry.name()))
        .output()
        .expect("skopeo");
    assert!(output.status.success(), "{output:?}");
    let configuration = world.path("registries.conf");
    fs::write(
        &configuration,
        format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address),
    )
    .expect("a file");
    let of = container(&mut world);
    of.engine_environment
        .insert("CONTAINERS_REGISTRIES_CONF".to_owned(), configuration.display().to_string());
    let image = of.image.as_mut().expect("an image");
    image.name = registry.name();
    image.pull = vec![PullPolicy::IfNotPresent];
    (world, registry)
}

#[needs(root)]
fn jobs_that_want_an_image_at_once_cause_one_pull_and_the_next_none() {
    let (mut world, registry) = published(None, "");
    container(&mut world).image.as_mut().expect("an image").pull = vec![PullPolicy::Always];
    // Each of another job of the account.
    let ids: Vec<String> = (0..5).map(|n| format!("{}{n}", &world.handover.decision_id[..31])).collect();
    let directory = container(&mut world).directory.clone();
    let mut jobs = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        world.handover.decision_id.clone_from(id);
        container(&mut world).directory = directory.with_file_name(n.to_string());
        jobs.push(world.start(""));
        // It has read its message, which the next one replaces.
        let end = Instant::now() + Duration::from_secs(60);
        while !PathBuf::from(format!("/tmp/nb-{id}")).exists() {
            assert!(Instant::now() < end, "it does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let outputs: Vec<String> = jobs
        .into_iter()
        .map(|job| {
            let output = job.finish();
            assert_code(&output, 0);
            out(&output)
        })
        .collect();
    let pulls = outputs.iter().filter(|text| text.contains("pulled it in")).count();
    // A job that began to wait after the end of another's pull asks the registry once more, and gets no layer.
    assert!((1..5).contains(&pulls), "{outputs:?}");
    assert_eq!(registry.layers_fetched(), 1, "{}", registry.log());
    for (n, id) in ids.iter().enumerate() {
        world.handover.decision_id.clone_from(id);
        container(&mut world).directory = directory.with_file_name(n.to_string());
        assert_code(&world.cleanup(), 0);
    }
    container(&mut world).image.as_mut().expect("an image").pull = vec![PullPolicy::IfNotPresent];
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(!out(&output).contains("pulling") && out(&output).contains("(sha256:"), "{}", out(&output));
    let output = world.run("echo ran; exit 0");
    assert_eq!(out(&output), "ran\n", "{}", err(&output));
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_password_reaches_the_registry_alone_and_wrong_names_and_passwords_are_distinguished() {
    let output = Command::new("htpasswd").args(["-nbB", "ann", "the-right-one"]).output().expect("htpasswd");
    let (mut world, registry) =
        published(Some(&String::from_utf8_lossy(&output.stdout)), "ann:the-right-one");
    let credential = |password: &str| {
        Credentials(vec![Credential {
            registry: registry.address.clone(),
            user: "ann".to_owned(),
            password: password.to_owned(),
            site: None,
        }])
    };
    for (credentials, said) in [
        (Credentials::default(), "set the CI variable DOCKER_AUTH_CONFIG"),
        (credential("wrong-one"), "refuses the job's user name and password"),
    ] {
        world.handover.credentials = credentials;
        let output = world.prepare();
        assert_code(&output, BUILD_FAILURE);
        assert!(err(&output).contains(said) && !err(&output).contains("wrong-one"), "{}", err(&output));
    }
    world.handover.credentials = credential("the-right-one");
    container(&mut world).image.as_mut().expect("an image").name =
        format!("{}/nbt/other:1", registry.address);
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("no such image or tag"), "{}", err(&output));
    container(&mut world).image.as_mut().expect("an image").name = registry.name();
    assert_code(&world.prepare(), 0);
    let runtime = format!("/tmp/nb-{}", world.handover.decision_id);
    assert!(!PathBuf::from(&runtime).join("auth.json").exists());
    for directory in [PathBuf::from(&runtime), world.path("store"), world.handover.workspace.data_dir.clone()]
    {
        // As it is, and in base64.
        for text in ["the-right-one", "YW5uOnRoZS1yaWdodC1vbmU"] {
            let found = Command::new("grep").args(["-rlsaF", text]).arg(&directory).output().expect("grep");
            assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{}", directory.display());
        }
    }
    world.handover.credentials = Credentials::default();
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn an_engine_that_is_missing_and_a_store_on_a_network_are_said_before_anything_is_pulled() {
    let mut world = world(AccountIds::Many);
    container(&mut world).program = Some("/no/such/podman".into());
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("Podman is not installed on the host"), "{}", err(&output));
    container(&mut world).program = None;
    // squashfuse stands for all of them: the kernel asks a server for each file.
    let empty = world.path("empty");
    world.mkdir(&empty, 0o700);
    let image = world.path("empty.sqfs");
    let output =
        Command::new("mksquashfs").arg(&empty).arg(&image).args(["-quiet"]).output().expect("mksquashfs");
    assert!(output.status.success(), "{output:?}");
    let store = container(&mut world).store.clone().expect("a store");
    let mount = format!(
        "; squashfuse -o allow_other,uid={} {} {}",
        world.handover.account.uid,
        image.display(),
        store.display()
    );
    world.mounts.as_mut().expect("mounts").push_str(&mount);
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("it is on FUSE, where Podman cannot keep images"), "{}", err(&output));
    assert!(!out(&output).contains("pulling"));
}

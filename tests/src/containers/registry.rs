//! Debian's docker-registry, with TLS and a password, and a [`Front`] before it.

use super::front::Front;
use super::image::{Digest, Image, Index};
use crate::issuer::tls::Tls;
use crate::tree::must;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Where registries listen.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// The account that may read and write.
pub const USER: &str = "nbt_reader";
/// Its password.
pub const PASSWORD: &str = "a pass:word/with=signs";

/// Starts the registry and ends it, by its pid, when standard input is at its end: when the test is.
const SERVE: &str = "docker-registry serve \"$0\" & pid=$!; read -r _; kill \"$pid\"; wait \"$pid\"";

/// A registry. It ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    port: u16,
    front: Front,
    tls: Tls,
    directory: TempDir,
}

/// What can be pushed.
pub trait Push {
    /// Writes it to a layout under a tag. Gives the digest of its manifest.
    fn write_to(&self, layout: &Path, tag: &str) -> Digest;
}

impl Push for Image {
    fn write_to(&self, layout: &Path, tag: &str) -> Digest {
        self.write(layout, tag)
    }
}

impl Push for Index {
    fn write_to(&self, layout: &Path, tag: &str) -> Digest {
        self.write(layout, tag)
    }
}

impl Registry {
    /// Starts an empty one that asks for a password.
    ///
    /// # Panics
    /// Without docker-registry and apache2-utils.
    pub fn start() -> Self {
        Self::with(true)
    }

    /// Starts an empty one that anybody may use.
    ///
    /// # Panics
    /// Without docker-registry.
    pub fn open() -> Self {
        Self::with(false)
    }

    fn with(password: bool) -> Self {
        let directory =
            tempfile::Builder::new().prefix("nbt_registry_").tempdir_in("/var/tmp").expect("a directory");
        let tls = Tls::new(&[ADDRESS, "localhost"], false);
        let path = |name: &str| directory.path().join(name);
        let (certificate, key) = &tls.server_pem;
        for (name, text) in [("ca.crt", &tls.ca_pem), ("server.crt", certificate), ("server.key", key)] {
            fs::write(path(name), text).expect("a file");
        }
        let root = directory.path().display();
        let mut configuration = format!(
            "version: 0.1\n\
             log: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage:\n  filesystem: {{rootdirectory: {root}/store}}\n  delete: {{enabled: true}}\n\
             http:\n  addr: {ADDRESS}:0\n  relativeurls: true\n\
             \x20 tls: {{certificate: {root}/server.crt, key: {root}/server.key}}\n"
        );
        if password {
            let known = must(Command::new("htpasswd").args(["-B", "-C", "4", "-b", "-n", USER, PASSWORD]));
            fs::write(path("passwords"), known).expect("a file");
            configuration += &format!("auth: {{htpasswd: {{realm: nbt, path: {root}/passwords}}}}\n");
        }
        let file = path("registry.yml");
        fs::write(&file, configuration).expect("a file");
        let mut server = Command::new("sh")
            .args(["-c", SERVE])
            .arg(&file)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("OTEL_TRACES_EXPORTER", "none")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut log = BufReader::new(server.stderr.take().expect("a pipe"));
        let port = listening(&mut log);
        // It logs each request.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let front = Front::start(tls.clone(), port);
        Registry { server, port, front, tls, directory }
    }

    /// Puts an image under `repository:tag`. Gives the digest of its manifest.
    ///
    /// # Panics
    /// Without skopeo.
    #[track_caller]
    pub fn push(&self, name: &str, image: &impl Push) -> Digest {
        let layout = tempfile::Builder::new().prefix("layout").tempdir_in(self.directory.path());
        let layout = layout.expect("a directory");
        let digest = image.write_to(layout.path(), "image");
        must(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"])
                .args([&format!("--dest-creds={USER}:{PASSWORD}"), "--dest-cert-dir"])
                .arg(self.certificates())
                .arg(format!("oci:{}:image", layout.path().display()))
                .arg(format!("docker://{}", self.direct(name)))
                .env_clear()
                .env("PATH", "/usr/bin:/bin"),
        );
        digest
    }

    /// The authority of its certificate.
    pub fn ca_pem(&self) -> String {
        self.tls.ca_pem.clone()
    }

    /// A directory that contains `ca.crt` alone, for options such as `--cert-dir`.
    fn certificates(&self) -> std::path::PathBuf {
        let directory = self.directory.path().join("certificates");
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("ca.crt"), &self.tls.ca_pem).expect("a file");
        directory
    }

    /// `127.0.0.1:PORT/name`, without the front.
    pub fn direct(&self, name: &str) -> String {
        format!("{ADDRESS}:{}/{name}", self.port)
    }

    /// `127.0.0.1:PORT/name`, by the front.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// `127.0.0.1:PORT` of the front.
    pub fn host(&self) -> String {
        format!("{ADDRESS}:{}", self.front.port())
    }

    /// What stands before it.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Passwords as docker's `config.json` has them, for the registry and for its front.
    pub fn auth_file(&self) -> String {
        use base64::Engine;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let direct = format!("{ADDRESS}:{}", self.port);
        serde_json::json!({ "auths": { direct: { "auth": auth }, self.host(): { "auth": auth } } })
            .to_string()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        drop(self.server.wait());
    }
}

/// The port that it says it listens on.
fn listening(log: &mut impl BufRead) -> u16 {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let length = log.read_line(&mut line).expect("its log");
        assert!(length > 0, "docker-registry did not start:\n{seen}");
        if let Some((_, rest)) = line.split_once(&format!("listening on {ADDRESS}:")) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().expect("a port");
        }
        seen += &line;
    }
}

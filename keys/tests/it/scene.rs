//! What most tests need: a keys directory, a server that publishes keys, and a way to run the
//! program.

use crate::double::{Certificate, Double, Request, answer};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A directory for a test's files, with a keys directory in it.
pub(crate) struct Scene {
    root: TempDir,
}

/// How the program ended.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks the exit status, and that standard error contains this text.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
    }

    #[track_caller]
    pub(crate) fn expect_ok(&self) {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Scene { root: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir(scene.keys_dir()).expect("a keys directory");
        scene
    }

    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    /// Writes a file beside the keys directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The content of `main.json`.
    pub(crate) fn keys_file(&self) -> Value {
        let text = std::fs::read(self.keys_dir().join("main.json")).expect("a keys file");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The kids in `main.json`, in its order.
    pub(crate) fn kids(&self) -> Vec<String> {
        let file = self.keys_file();
        let keys = file["keys"].as_array().expect("an array").iter();
        keys.map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.keys_dir().join("main.json").exists()
    }

    /// Lets the next fetch happen at once.
    pub(crate) fn forget_attempt(&self) {
        std::fs::remove_file(self.keys_dir().join("main.attempt")).expect("an attempt was made");
    }

    /// Moves the last attempt a few seconds into the past.
    pub(crate) fn age_attempt(&self, seconds: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.keys_dir().join("main.attempt"));
        let file = file.expect("an attempt was made");
        let made = file.metadata().and_then(|meta| meta.modified()).expect("a time");
        file.set_modified(made - std::time::Duration::from_secs(seconds)).expect("another time");
    }

    /// `nunbird-keys refresh` in the form without a configuration.
    pub(crate) fn refresh_command(&self, url: &str, ca_pem: Option<&str>) -> Command {
        let mut command = program();
        command.args(["refresh", "--server-name", "main", "--url", url, "--issuer", url, "--keys-dir"]);
        command.arg(self.keys_dir());
        if let Some(pem) = ca_pem {
            command.arg("--ca-file").arg(self.file("ca.pem", pem));
        }
        command
    }

    /// Fetches from a server with its own certificate authority.
    pub(crate) fn refresh(&self, double: &Double) -> Finished {
        finish(&mut self.refresh_command(&double.url, Some(&double.ca_pem)))
    }

    /// A configuration with one server `main`, and `more` appended to its table.
    pub(crate) fn configuration(&self, double: &Double, more: &str) -> PathBuf {
        let ca_file = self.file("ca.pem", &double.ca_pem);
        let text = format!(
            "keys_dir = {:?}\n[[gitlab]]\nname = \"main\"\nurl = {:?}\naudience = \"x\"\nca_file = {ca_file:?}\n{more}\n\
             [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n",
            self.keys_dir(),
            double.url,
        );
        self.file("config.toml", &text)
    }
}

/// The program with an empty environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nunbird-keys"));
    command.env_clear();
    command
}

pub(crate) fn finish(command: &mut Command) -> Finished {
    command.output().expect("the program runs").into()
}

/// Runs a shell script as root of its own mount namespace; its arguments are `$1`, `$2` and so on.
pub(crate) fn in_own_mounts<S: AsRef<OsStr>>(script: &str, words: &[S]) -> Finished {
    let mut command = Command::new("unshare");
    // An ordinary user becomes root of a user namespace; root needs none.
    command.args(if nix::unistd::geteuid().is_root() { &["-m"][..] } else { &["-r", "-m"] });
    command.args(["sh", "-euc", script, "sh"]).args(words);
    finish(&mut command)
}

/// An RSA key as GitLab publishes it. Only the size of its modulus is right.
pub(crate) fn jwk(kid: &str) -> Value {
    let seed = kid.bytes().fold(7_u8, u8::wrapping_add);
    let mut modulus = "gA".to_owned();
    modulus.extend((0..337).map(|n| char::from(b'A' + (seed.wrapping_mul(31).wrapping_add(n as u8) % 26))));
    // 342 characters are 256 bytes; the last one holds two spare bits, which must be 0.
    modulus.push_str("BBQ");
    json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": modulus, "e": "AQAB"})
}

pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A discovery response as GitLab sends it, and `keys` at the path that it names.
pub(crate) fn gitlab(
    request: &Request<'_>,
    out: &mut dyn Write,
    keys: impl FnOnce() -> String,
) -> std::io::Result<()> {
    match request.path {
        "/.well-known/openid-configuration" => {
            let uri = format!("{}/oauth/discovery/keys", request.url);
            let body = json!({"issuer": request.url, "jwks_uri": uri, "scopes_supported": ["openid"]});
            answer(out, "200 OK", "Content-Type: application/json\r\n", &body.to_string())
        }
        "/oauth/discovery/keys" => answer(out, "200 OK", "Content-Type: application/json\r\n", &keys()),
        _ => answer(out, "404 Not Found", "", ""),
    }
}

/// A server with one key.
pub(crate) fn ordinary(certificate: Certificate) -> Double {
    Double::start(certificate, |request, out| gitlab(request, out, || jwks(&[jwk("a")])))
}

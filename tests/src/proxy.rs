//! A forward proxy, tinyproxy(8), which alone knows the name of a server.
//!
//! It has its own `/etc/hosts`, so a client on this machine reaches the server by the proxy or not at all.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the proxy allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'a> {
    /// The only port that CONNECT may name; any where there is none.
    pub port: Option<u16>,
    /// The user and the password that it asks for.
    pub auth: Option<(&'a str, &'a str)>,
}

/// A running proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Proxy {
    /// Starts a proxy for which `name` is an address of this machine.
    ///
    /// # Panics
    /// If it does not listen after a few attempts.
    pub fn start(name: &str, rules: Rules<'_>) -> Self {
        // tinyproxy takes a number and no socket, and another process may take that port first.
        (0..5).find_map(|_| Self::attempt(name, rules)).expect("tinyproxy listens")
    }

    fn attempt(name: &str, rules: Rules<'_>) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("nbt_proxy_").tempdir().expect("a directory");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).ok()?.port();
        let path = |file: &str| directory.path().join(file);
        let mut text = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 20\nMaxClients 20\nLogLevel Connect\nLogFile \"{}\"\n",
            path("log").display()
        );
        if let Some((user, password)) = rules.auth {
            text.push_str(&format!("BasicAuth {user} {password}\n"));
        }
        if let Some(port) = rules.port {
            text.push_str(&format!("ConnectPort {port}\n"));
        }
        fs::write(path("tinyproxy.conf"), text).expect("a configuration");
        fs::write(path("hosts"), format!("127.0.0.1 localhost {name}\n")).expect("a list of hosts");
        let script = "mount --bind \"$1\" /etc/hosts && exec tinyproxy -d -c \"$2\"";
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-euc", script, "sh"])
            .args([path("hosts"), path("tinyproxy.conf")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(Proxy { child, port, directory });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = child.kill();
        let _status = child.wait();
        None
    }

    /// As a configuration has it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

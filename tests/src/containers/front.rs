//! What stands before a registry: it passes requests on, counts them, and fails as a test wants.
//!
//! It is for reading: images are pushed to the registry itself ([`Registry::push`](super::Registry::push)). One request for
//! each connection.

use super::image::Digest;
use crate::issuer::http::Server;
use crate::issuer::tls::Tls;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// All.
    Everything,
    /// Those for manifests, by tag or digest.
    Manifests,
    /// Those for layers and configurations.
    Blobs,
}

/// How they fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An answer with this status and the body that registries have with it.
    Status(u16),
    /// No answer, until the test heals it or the client goes.
    Hang,
    /// The connection breaks after so many bytes of the body.
    Cut(u64),
    /// One byte of the body each so many milliseconds.
    Trickle(u64),
}

/// It ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    state: Arc<State>,
    // Mutex: closing it takes a test that has a shared registry.
    server: Mutex<Server>,
    port: u16,
}

#[derive(Debug, Default)]
struct State {
    shared: Mutex<Shared>,
    healed: Condvar,
}

#[derive(Debug, Default)]
struct Shared {
    fault: Option<(On, Fault, Option<usize>)>,
    requests: BTreeMap<(String, String), usize>,
    /// `/v2/…/manifests/TAG` to the same of another reference, from the request of this number on.
    moved: BTreeMap<String, (usize, String)>,
    /// By path: what is answered in the registry's place, with its kind and the digest that it is said to have.
    forged: BTreeMap<String, Arc<Forged>>,
    closing: bool,
}

#[derive(Debug)]
struct Forged {
    kind: String,
    digest: Digest,
    body: Vec<u8>,
    /// How many bytes of it are sent before the connection ends.
    sent: usize,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    pub(super) fn start(tls: Tls, registry: u16) -> Self {
        let state = Arc::new(State::default());
        let (served, client) = (Arc::clone(&state), client(&tls));
        let server = Server::start(move |stream| {
            let mut stream = tls.accept(stream)?;
            let done = pass(&served, &client, registry, &mut stream);
            stream.conn.send_close_notify();
            stream.conn.write_tls(&mut stream.sock)?;
            done
        });
        Front { state, port: server.port(), server: Mutex::new(server) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, these requests fail so.
    pub fn fail(&self, on: On, fault: Fault) {
        self.state.lock().fault = Some((on, fault, None));
    }

    /// The next requests of this kind fail so, as many as `times`; later ones do not.
    pub fn fail_times(&self, times: usize, on: On, fault: Fault) {
        self.state.lock().fault = Some((on, fault, Some(times)));
    }

    /// From now on, no request fails.
    pub fn heal(&self) {
        self.state.lock().fault = None;
        self.state.healed.notify_all();
    }

    /// Refuses connections from now on.
    pub fn go_down(&self) {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).stop();
    }

    /// Answers for `repository:tag` as the registry does for the tag `other` of it, once so many requests for the first tag's
    /// manifest have been answered.
    ///
    /// # Panics
    /// When the name has no tag.
    pub fn move_tag(&self, name: &str, other: &str, after: usize) {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        let path = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
        self.state.lock().moved.insert(path(tag), (after, path(other)));
    }

    /// Answers for the manifest or blob (`manifests/TAG`, `blobs/DIGEST`) of a repository with this, whatever the registry has, and says that it
    /// has this digest.
    pub fn forge(&self, repository: &str, what: &str, kind: &str, digest: &Digest, body: Vec<u8>) {
        self.forge_at(&format!("/v2/{repository}/{what}"), kind, digest, body);
    }

    /// The same for the whole path of a request.
    pub fn forge_at(&self, path: &str, kind: &str, digest: &Digest, body: Vec<u8>) {
        let sent = body.len();
        let forged = Forged { kind: kind.to_owned(), digest: digest.clone(), body, sent };
        self.state.lock().forged.insert(path.to_owned(), Arc::new(forged));
    }

    /// Answers for the blob of a repository with this, and breaks the connection after so many bytes of it.
    pub fn cut(&self, repository: &str, digest: &Digest, body: Vec<u8>, sent: usize) {
        let kind = "application/octet-stream".to_owned();
        let forged = Forged { kind, digest: digest.clone(), body, sent };
        self.state.lock().forged.insert(format!("/v2/{repository}/blobs/{digest}"), Arc::new(forged));
    }

    /// How often a blob was asked for (`GET`).
    pub fn pulls(&self, blob: &Digest) -> usize {
        self.count("GET", |path| path.contains("/blobs/") && path.ends_with(blob.as_str()))
    }

    /// Each blob that was asked for (`GET`), and how often.
    pub fn blobs(&self) -> BTreeMap<String, usize> {
        let shared = self.state.lock();
        let blobs = shared.requests.iter().filter(|((method, _), _)| method == "GET");
        blobs
            .filter_map(|((_, path), times)| Some((path.split_once("/blobs/")?.1.to_owned(), *times)))
            .collect()
    }

    /// How often manifests were asked for (`GET` and `HEAD`).
    pub fn manifests(&self) -> usize {
        self.count("GET", |path| path.contains("/manifests/"))
            + self.count("HEAD", |path| path.contains("/manifests/"))
    }

    /// Counts from nought again.
    pub fn forget(&self) {
        self.state.lock().requests.clear();
    }

    fn count(&self, method: &str, which: impl Fn(&str) -> bool) -> usize {
        let shared = self.state.lock();
        shared
            .requests
            .iter()
            .filter(|((m, path), _)| m == method && which(path))
            .map(|(_, times)| times)
            .sum()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.state.lock().closing = true;
        self.heal();
    }
}

fn client(tls: &Tls) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(tls.ca_pem.as_bytes()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The head of a request or an answer.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Head> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let first = line.trim_end().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(Head { first, headers })
}

fn pass(
    state: &State,
    client: &Arc<ClientConfig>,
    registry: u16,
    down: &mut (impl Read + Write),
) -> io::Result<()> {
    let request = read_head(&mut BufReader::with_capacity(16 << 10, &mut *down))?;
    let mut words = request.first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, fault) = note(state, method, path);
    match fault {
        Some(Fault::Status(code)) => return down.write_all(refusal(code).as_bytes()),
        Some(Fault::Hang) => hang(state),
        _ => {}
    }
    if !matches!(method, "GET" | "HEAD") {
        return down.write_all(refusal(405).as_bytes());
    }
    let forged = state.lock().forged.get(&path).cloned();
    if let Some(forged) = forged {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
            forged.kind,
            forged.body.len(),
            forged.digest
        );
        down.write_all(head.as_bytes())?;
        return if method == "GET" {
            down.write_all(forged.body.get(..forged.sent).unwrap_or(&forged.body))
        } else {
            Ok(())
        };
    }
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, registry))?;
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    let mut up = StreamOwned::new(connection, stream);
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection")) {
        head += &format!("{name}: {value}\r\n");
    }
    up.write_all(format!("{head}\r\n").as_bytes())?;
    let mut up = BufReader::with_capacity(64 << 10, up);
    let answer = read_head(&mut up)?;
    let mut head = format!("{}\r\nConnection: close\r\n", answer.first);
    for (name, value) in answer.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection")) {
        head += &format!("{name}: {value}\r\n");
    }
    down.write_all(format!("{head}\r\n").as_bytes())?;
    match fault {
        Some(Fault::Cut(bytes)) => {
            io::copy(&mut up.take(bytes), down)?;
            Ok(())
        }
        Some(Fault::Trickle(pause)) => {
            for byte in up.bytes() {
                down.write_all(&[byte?])?;
                down.flush()?;
                if state.lock().closing {
                    break;
                }
                std::thread::sleep(Duration::from_millis(pause));
            }
            Ok(())
        }
        _ => copy_to_end(&mut up, down),
    }
}

/// A registry closes a connection without the closing message of TLS.
fn copy_to_end(up: &mut impl Read, down: &mut impl Write) -> io::Result<()> {
    match io::copy(up, down) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other.map(drop),
    }
}

/// Counts a request, and says what to ask for and how it fails.
fn note(state: &State, method: &str, path: &str) -> (String, Option<Fault>) {
    let mut shared = state.lock();
    let times = shared.requests.entry((method.to_owned(), path.to_owned())).or_default();
    *times += 1;
    let path = match shared.moved.get_mut(path) {
        Some((0, other)) => other.clone(),
        Some((left, _)) => {
            *left -= 1;
            path.to_owned()
        }
        None => path.to_owned(),
    };
    let Some((on, fault, left)) = &mut shared.fault else { return (path, None) };
    let meant = match on {
        On::Everything => true,
        On::Manifests => path.contains("/manifests/"),
        On::Blobs => path.contains("/blobs/"),
    };
    let fault = match left {
        _ if !meant => None,
        Some(0) => None,
        Some(left) => {
            *left -= 1;
            Some(*fault)
        }
        None => Some(*fault),
    };
    (path, fault)
}

fn hang(state: &State) {
    let mut shared = state.lock();
    while !shared.closing && matches!(shared.fault, Some((_, Fault::Hang, _))) {
        shared = state.healed.wait(shared).unwrap_or_else(PoisonError::into_inner);
    }
}

fn refusal(code: u16) -> String {
    let word = match code {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        404 => "MANIFEST_UNKNOWN",
        429 => "TOOMANYREQUESTS",
        503 => "UNAVAILABLE",
        _ => "UNSUPPORTED",
    };
    let body = format!(r#"{{"errors":[{{"code":"{word}","message":"a fault of the test","detail":null}}]}}"#);
    // Clients may count on it, and ch-image does.
    let way = if code == 401 { "WWW-Authenticate: Basic realm=\"a fault\"\r\n" } else { "" };
    format!(
        "HTTP/1.1 {code} Fault\r\n{way}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

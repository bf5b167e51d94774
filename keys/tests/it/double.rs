//! A double of a GitLab server: TLS by rustls, and as much HTTP as two GET requests need.
//!
//! Each server has its own certificate authority. Handlers write their response byte by byte, so
//! that they can be slow, endless or wrong. The threads end with the test process.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the server presents.
#[derive(Clone, Copy)]
pub(crate) enum Certificate {
    /// For 127.0.0.1 and localhost, valid.
    Good,
    /// For another host.
    WrongName,
    /// Valid in 2020.
    Expired,
    /// Plain HTTP.
    None,
}

/// A request as handlers see it.
pub(crate) struct Request<'a> {
    /// Path and query.
    pub(crate) path: &'a str,
    /// The server's own URL, without a slash at the end.
    pub(crate) url: &'a str,
    /// The headers, a line each.
    pub(crate) head: &'a str,
}

type Handler = dyn Fn(&Request<'_>, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

/// A running server.
pub(crate) struct Double {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
    connections: Arc<AtomicU64>,
}

impl Double {
    pub(crate) fn start(
        certificate: Certificate,
        handler: impl Fn(&Request<'_>, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tls, ca_pem) = tls(certificate);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        let connections = Arc::new(AtomicU64::new(0));
        let shared = Arc::new((tls, url.clone(), Box::new(handler) as Box<Handler>));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let (tls, url, handler) = &*shared;
                    // Some tests are about a client that hangs up or refuses the certificate.
                    let _client_gone = match tls {
                        Some(config) => ServerConnection::new(Arc::clone(config))
                            .map_err(std::io::Error::other)
                            .and_then(|session| serve(StreamOwned::new(session, stream), url, handler)),
                        None => serve(stream, url, handler),
                    };
                });
            }
        });
        Double { url, ca_pem, connections }
    }

    /// The number of connections.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A port on which every connection is counted and closed.
pub(crate) fn trap() -> Double {
    Double::start(Certificate::None, |_, _| Ok(()))
}

fn serve(stream: impl Read + Write, url: &str, handler: &Handler) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut head = String::new();
        while stream.read_line(&mut head)? > 2 {}
        handler(&Request { path: &path, url, head: &head }, stream.get_mut())?;
        stream.get_mut().flush()?;
    }
}

fn tls(certificate: Certificate) -> (Option<Arc<ServerConfig>>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let names = match certificate {
        Certificate::None => return (None, ca.pem()),
        Certificate::WrongName => ["gitlab.other.test".to_owned(), "127.0.0.2".to_owned()],
        Certificate::Good | Certificate::Expired => ["127.0.0.1".to_owned(), "localhost".to_owned()],
    };
    let mut params = CertificateParams::new(names).expect("parameters");
    if let Certificate::Expired = certificate {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &ca).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .expect("a certificate with its key");
    (Some(Arc::new(config)), ca.pem())
}

/// Writes a complete response.
pub(crate) fn answer(out: &mut dyn Write, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

//! A certificate authority of its own and a TLS server with a certificate for 127.0.0.1 and localhost.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

/// What the TLS server presents, and the authority that vouches for it.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) ca_pem: String,
    /// The server's certificate and its key, for a server that is another program.
    pub(crate) server_pem: (String, String),
    config: Arc<ServerConfig>,
}

impl Tls {
    /// `names` are host names or addresses. The certificate is valid now, unless it has `expired`.
    pub(crate) fn new(names: &[&str], expired: bool) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL's strict check, which Python's clients have asked for since 3.13, wants both.
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "nunbird test bed authority");
        let ca_key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(authority, ca_key).expect("an authority");
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(names).expect("parameters");
        leaf.use_authority_key_identifier_extension = true;
        if expired {
            leaf.not_before = date_time_ymd(2001, 1, 1);
            leaf.not_after = date_time_ymd(2002, 1, 1);
        }
        let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
        let server_pem = (leaf.pem(), key.serialize_pem());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .expect("a certificate with its key");
        Tls { ca_pem: ca.pem(), server_pem, config: Arc::new(config) }
    }

    pub(crate) fn accept(&self, stream: TcpStream) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

//! Verifies the signature before anything is decoded.
//!
//! The token is split at its dots, and every key of every configured server is tried over the raw bytes:
//! three servers with three keys cost a third of a millisecond. Only then is the header decoded, to make sure
//! that it agrees with the key that verified. The token never chooses its algorithm or its key, which removes
//! the whole family of `alg` confusion, embedded keys and key-URL headers (RFC 8725 §2.1, §3.1, §3.10).

use crate::{KeyMaterial, Rejection, Server};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::iter;

/// The longest accepted token, in bytes. GitLab's are below 3 KiB; 200 groups of 255 characters
/// make 73 KiB.
pub const MAX_TOKEN: usize = 96 << 10;

/// A token with a genuine signature.
#[derive(Debug)]
pub struct Verified {
    /// Index of the server whose key verified it: of several with that key, the one that the token
    /// names as its issuer.
    pub server: usize,
    /// The decoded payload, signed by that server.
    pub payload: Vec<u8>,
}

/// GitLab's header and nothing else: `jwk`, `jku`, `x5u`, `x5c`, `crit` and all others are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[allow(dead_code, reason = "allowed in the header, of no use: every known key is tried")]
    kid: Option<String>,
    typ: Option<String>,
}

/// Checks the signature and the header of one token.
///
/// `now` in seconds since the epoch decides which keys are too old to use.
///
/// # Errors
/// [`Rejection::Empty`], [`Rejection::Malformed`], [`Rejection::UnknownKey`] or [`Rejection::Header`].
pub fn verify(token: &str, servers: &[Server], now: u64) -> Result<Verified, Rejection> {
    if token.is_empty() {
        return Err(Rejection::Empty);
    }
    let parts = split(token).ok_or(Rejection::Malformed)?;
    let mut signers = signers(&parts, servers, now);
    let (first, algorithm) = signers.next().ok_or(Rejection::UnknownKey)?;
    let header = URL_SAFE_NO_PAD.decode(parts.header).map_err(|_| Rejection::Header)?;
    check_header(&header, algorithm)?;
    let payload = URL_SAFE_NO_PAD.decode(parts.payload).map_err(|_| Rejection::Claims)?;
    // Keys are public, so a server can publish another server's key as its own: that must not make
    // the other's tokens its own.
    let issuer = serde_json::from_slice::<Named>(&payload).map(|named| named.iss).ok();
    let is_issuer = |server: &usize| servers.get(*server).map(|server| &server.issuer) == issuer.as_ref();
    let server = iter::once(first).chain(signers.map(|(server, _)| server)).find(is_issuer).unwrap_or(first);
    Ok(Verified { server, payload })
}

/// The issuer that a payload names.
#[derive(Deserialize)]
struct Named {
    iss: String,
}

/// The parts of a JWS in compact form (RFC 7515 §7.1), each base64url text of at least one character.
struct Parts<'a> {
    signing_input: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

fn split(token: &str) -> Option<Parts<'_>> {
    let shape = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if token.len() > MAX_TOKEN || !token.bytes().all(shape) {
        return None;
    }
    let (signing_input, signature) = token.rsplit_once('.')?;
    let (header, payload) = signing_input.split_once('.')?;
    let whole = !header.is_empty() && !payload.is_empty() && !signature.is_empty() && !payload.contains('.');
    whole.then_some(Parts { signing_input, header, payload, signature })
}

/// The servers that have the key that made the signature, in their order, with its algorithm.
/// Evaluated lazily.
fn signers<'a>(
    parts: &'a Parts<'a>,
    servers: &'a [Server],
    now: u64,
) -> impl Iterator<Item = (usize, Algorithm)> + 'a {
    let algorithm = move |server: &Server| {
        server.keys.iter().find_map(|key| {
            let fresh = key.pinned || now < key.last_seen.saturating_add(server.keys_max_age);
            let (algorithm, decoding) = usable(&key.material)?;
            if !fresh || !server.algorithms.contains(&algorithm_name(algorithm)) {
                return None;
            }
            let input = parts.signing_input.as_bytes();
            let made = jsonwebtoken::crypto::verify(parts.signature, input, &decoding, algorithm);
            made.unwrap_or(false).then_some(algorithm)
        })
    };
    servers.iter().enumerate().filter_map(move |(index, server)| Some((index, algorithm(server)?)))
}

fn usable(material: &KeyMaterial) -> Option<(Algorithm, DecodingKey)> {
    let (algorithm, key) = match material {
        KeyMaterial::Rs256 { n, e } => (Algorithm::RS256, DecodingKey::from_rsa_components(n, e)),
        KeyMaterial::Es256 { x, y } => (Algorithm::ES256, DecodingKey::from_ec_components(x, y)),
        KeyMaterial::Es384 { x, y } => (Algorithm::ES384, DecodingKey::from_ec_components(x, y)),
    };
    Some((algorithm, key.ok()?))
}

fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        _ => "",
    }
}

fn check_header(bytes: &[u8], algorithm: Algorithm) -> Result<(), Rejection> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Rejection::Header);
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|_| Rejection::Header)?;
    let typed = header.typ.is_none_or(|typ| typ == "JWT");
    if typed && header.alg == algorithm_name(algorithm) { Ok(()) } else { Err(Rejection::Header) }
}

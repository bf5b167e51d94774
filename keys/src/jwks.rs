//! Which keys of a key set can verify id tokens (RFC 7517, RFC 7518 §6).

use crate::server::algorithm_name;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nunbird_handover::Untrusted;
use nunbird_policy::Algorithm;
use nunbird_token::{KeyMaterial, MAX_KEYS};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeSet;

/// The least and the largest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// RSA exponents: 1 would make every text its own signature, and a large one only costs time.
const RSA_EXPONENTS: std::ops::RangeInclusive<u64> = 3..=4_294_967_297;

/// A usable key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name: not empty, at most 256 bytes, printable.
    pub kid: String,
    /// Its numbers, which determine its algorithm.
    pub material: KeyMaterial,
}

/// The contents of a key set.
#[derive(Debug, PartialEq, Eq)]
pub struct UsableKeys {
    /// At least one, at most [`MAX_KEYS`], each with a name of its own.
    pub keys: Vec<Key>,
    /// Keys that cannot be used here, and why.
    pub skipped: Vec<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// Members of a JWK. serde refuses duplicates.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    // Private or symmetric parts: a server that publishes one has leaked its key.
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwk {
    fn contains_a_secret(&self) -> bool {
        let parts = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        parts.into_iter().any(Option::is_some)
    }
}

/// Checks a key set; keys for other algorithms than those `accepted` are skipped.
///
/// # Errors
/// For a set that is malformed, has no usable keys, is too large, contains a secret or names a key
/// twice. Nothing of it is used then.
pub fn parse_key_set(text: &[u8], accepted: &[Algorithm]) -> Result<UsableKeys, String> {
    // serde_json accepts any bytes in members that it skips; JSON is UTF-8 throughout (RFC 8259,
    // 8.1).
    let text = std::str::from_utf8(text).map_err(|e| format!("not a JWKS: {e}"))?;
    let set: KeySet =
        serde_json::from_str(text).map_err(|e| format!("not a JWKS: {}", Untrusted(&e.to_string())))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!(
            "{} keys are more than a GitLab server has (at most {MAX_KEYS})",
            set.keys.len()
        ));
    }
    if set.keys.iter().any(Jwk::contains_a_secret) {
        return Err("contains the private part of a key: anybody can sign tokens; inform the \
             administrators of that server"
            .to_owned());
    }
    let mut judged = UsableKeys { keys: Vec::new(), skipped: Vec::new() };
    let mut names = BTreeSet::new();
    for jwk in set.keys {
        let name = jwk.kid.clone().unwrap_or_default();
        match key(jwk, accepted) {
            Ok(key) if !names.insert(key.kid.clone()) => {
                return Err(format!("two keys are named {}", Untrusted(&key.kid)));
            }
            Ok(key) => judged.keys.push(key),
            Err(why) => judged.skipped.push(format!("key {} is not used: {why}", Untrusted(&name))),
        }
    }
    if judged.keys.is_empty() {
        let why =
            if judged.skipped.is_empty() { "it is empty".to_owned() } else { judged.skipped.join("; ") };
        return Err(format!("no key of the set can be used: {why}"));
    }
    Ok(judged)
}

fn key(jwk: Jwk, accepted: &[Algorithm]) -> Result<Key, String> {
    let kid = jwk.kid.filter(|kid| !kid.is_empty()).ok_or("it has no `kid`")?;
    if kid.len() > 256 || kid.chars().any(Untrusted::is_deceptive) {
        return Err("its `kid` is not plain text".to_owned());
    }
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("it is not for signatures".to_owned());
    }
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(jwk.n.as_deref(), jwk.e.as_deref())?,
        ("EC", Some("P-256")) => {
            let (x, y) = point(jwk.x, jwk.y, 32)?;
            KeyMaterial::Es256 { x, y }
        }
        ("EC", Some("P-384")) => {
            let (x, y) = point(jwk.x, jwk.y, 48)?;
            KeyMaterial::Es384 { x, y }
        }
        (kty, _) => return Err(format!("its key type is {}", Untrusted(kty))),
    };
    let name = algorithm_name(algorithm(&material));
    match jwk.alg {
        Some(alg) if alg != name => Err(format!("its algorithm is {}", Untrusted(&alg))),
        _ if !accepted.contains(&algorithm(&material)) => {
            Err(format!("it is for {name}, which `algorithms` does not list"))
        }
        _ => Ok(Key { kid, material }),
    }
}

/// The algorithm that a key is used with.
pub(crate) fn algorithm(material: &KeyMaterial) -> Algorithm {
    match material {
        KeyMaterial::Rs256 { .. } => Algorithm::Rs256,
        KeyMaterial::Es256 { .. } => Algorithm::Es256,
        KeyMaterial::Es384 { .. } => Algorithm::Es384,
    }
}

/// The size of a key, in bits.
pub(crate) fn bits(material: &KeyMaterial) -> usize {
    match material {
        KeyMaterial::Rs256 { n, .. } => URL_SAFE_NO_PAD.decode(n).map_or(0, |n| bit_length(&n)),
        KeyMaterial::Es256 { .. } => 256,
        KeyMaterial::Es384 { .. } => 384,
    }
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<KeyMaterial, String> {
    let (n, e) = n.zip(e).ok_or("`n` or `e` is missing")?;
    let decode =
        |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "`n` or `e` is not base64url".to_owned());
    let (modulus, exponent) = (decode(n)?, decode(e)?);
    let (modulus, exponent) = (significant(&modulus), significant(&exponent));
    let length = bit_length(modulus);
    if !RSA_BITS.contains(&length) {
        return Err(format!("its modulus has {length} bits"));
    }
    let value = exponent.iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? + u64::from(*byte)));
    if !value.is_some_and(|value| value % 2 == 1 && RSA_EXPONENTS.contains(&value)) {
        return Err("its exponent is not one that RSA keys use".to_owned());
    }
    // Without leading zeros, which some servers write and verifiers refuse.
    Ok(KeyMaterial::Rs256 { n: URL_SAFE_NO_PAD.encode(modulus), e: URL_SAFE_NO_PAD.encode(exponent) })
}

fn point(x: Option<String>, y: Option<String>, length: usize) -> Result<(String, String), String> {
    let (x, y) = x.zip(y).ok_or("`x` or `y` is missing")?;
    for part in [&x, &y] {
        let decoded = URL_SAFE_NO_PAD.decode(part).map_err(|_| "`x` or `y` is not base64url".to_owned())?;
        if decoded.len() != length {
            return Err(format!("a coordinate has {} bytes instead of {length}", decoded.len()));
        }
    }
    Ok((x, y))
}

/// A big-endian number without its leading zeros.
fn significant(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|b| *b != 0).map_or(&[][..], |first| &bytes[first..])
}

fn bit_length(bytes: &[u8]) -> usize {
    let significant = significant(bytes);
    let leading = significant.first().map_or(0, |b| b.leading_zeros());
    significant.len() * 8 - usize::try_from(leading).unwrap_or(0)
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;

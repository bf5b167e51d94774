//! Keys that sign tokens, as a GitLab server has them and as a forger would.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// A private key that signs tokens.
#[derive(Debug)]
pub struct SigningKey {
    kid: String,
    pair: Arc<Pair>,
    /// Goes back to [`IDLE`] with the last server that has it.
    lent: bool,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

/// RSA keys of servers that have ended. To generate two for each server took most of the time of all tests.
static IDLE: Mutex<Vec<Arc<Pair>>> = Mutex::new(Vec::new());

/// Base64url without padding (RFC 7515 §2).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    /// A fresh RSA key of 2048 bits; its `kid` is its thumbprint (RFC 7638), as GitLab does it.
    pub fn rsa() -> Self {
        Self::new(rsa_pair())
    }

    /// An RSA key that no other running server of this process has; an earlier one may have had it.
    pub(crate) fn rsa_of_server() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut key = Self::of(idle.unwrap_or_else(|| Arc::new(rsa_pair())));
        key.lent = true;
        key
    }

    /// A fresh P-256 key.
    pub fn p256() -> Self {
        Self::new(Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key")))
    }

    fn new(pair: Pair) -> Self {
        Self::of(Arc::new(pair))
    }

    fn of(pair: Arc<Pair>) -> Self {
        let thumbprint = digest(&SHA256, material(&pair).to_string().as_bytes());
        SigningKey { kid: base64url(thumbprint.as_ref()), pair, lent: false }
    }

    /// The same key under another id.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// `RS256` or `ES256`.
    pub fn algorithm(&self) -> &'static str {
        match *self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The signature of a JWS signing input (`header.payload`), as JWS has it.
    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature).expect("an RSA signature");
                signature
            }
            Pair::P256(pair) => pair.sign(&random, input).expect("an ECDSA signature").as_ref().to_vec(),
        }
    }

    /// The public key as a member of a JWKS.
    pub fn jwk(&self) -> Value {
        let mut jwk = material(&self.pair);
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    /// The public key in DER (SubjectPublicKeyInfo for RSA, a point for P-256): what a forger takes as the secret of an HMAC
    /// where a verifier believes the token's `alg`.
    pub fn public_der(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().expect("a public key").as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// [`SigningKey::public_der`] as a PEM text.
    pub fn public_pem(&self) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(self.public_der());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|c| std::str::from_utf8(c).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        if self.lent {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.pair));
        }
    }
}

fn rsa_pair() -> Pair {
    Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"))
}

/// The required members of the JWK, which in the order of their names are the thumbprint's input.
fn material(pair: &Pair) -> Value {
    match pair {
        Pair::Rsa(pair) => {
            let key = pair.public_key();
            json!({
                "e": base64url(key.exponent().big_endian_without_leading_zero()),
                "kty": "RSA",
                "n": base64url(key.modulus().big_endian_without_leading_zero()),
            })
        }
        Pair::P256(pair) => {
            // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
            let point = pair.public_key().as_ref();
            json!({ "crv": "P-256", "kty": "EC", "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) })
        }
    }
}

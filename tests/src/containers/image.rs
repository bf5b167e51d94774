//! An image as an OCI layout (image-spec 1.0): written as JSON, without any engine.

use super::layer::{Blob, Layer};
use aws_lc_rs::digest::{SHA256, digest};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CREATED: &str = "2026-01-01T00:00:00Z";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = "sha256:".to_owned();
        for byte in digest(&SHA256, bytes).as_ref() {
            write!(text, "{byte:02x}").expect("text");
        }
        Digest(text)
    }

    pub(super) fn known(text: &str) -> Self {
        Digest(text.to_owned())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn hexadecimal(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image for one architecture.
#[derive(Debug, Clone)]
pub struct Image {
    architecture: String,
    config: Map<String, Value>,
    layers: Vec<Layer>,
}

/// Images for several architectures under one name.
#[derive(Debug, Clone)]
pub struct Index(pub Vec<Image>);

impl Image {
    /// One of this machine's architecture, without configuration.
    pub fn new(layers: impl Into<Vec<Layer>>) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Image { architecture: architecture.to_owned(), config: Map::new(), layers: layers.into() }
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Says that it is for another architecture, in Go's words (`arm64`).
    #[must_use]
    pub fn architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// Sets a member of the configuration (`Entrypoint`, `Cmd`, `Env`, `User`, `Volumes`, `ExposedPorts`, `WorkingDir`).
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Adds it to the layout in a directory under a tag. Gives the digest of its manifest.
    pub fn write(&self, layout: &Path, tag: &str) -> Digest {
        begin(layout);
        let descriptor = self.manifest(layout);
        finish(layout, tag, descriptor)
    }

    /// Writes all but its name.
    fn manifest(&self, layout: &Path) -> Value {
        let mut contents = Vec::new();
        let mut descriptors = Vec::new();
        for layer in &self.layers {
            let stored = layer.store();
            contents.push(stored.content.to_string());
            let (digest, size) = match &stored.blob {
                Blob::Bytes(bytes) => put(layout, bytes),
                Blob::File(file) => put_file(layout, file),
            };
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            descriptors.push(json!({ "mediaType": kind, "digest": digest.as_str(), "size": size }));
        }
        // One entry for each layer: optional in the specification, and Charliecloud refuses an image without.
        let history = vec![json!({ "created": CREATED, "created_by": "a test" }); self.layers.len()];
        let platform = json!({ "architecture": self.architecture, "os": "linux" });
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": CREATED,
            "history": history, "config": self.config, "rootfs": { "type": "layers", "diff_ids": contents },
        });
        let (config_digest, config_size) = put(layout, config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest.as_str(), "size": config_size,
            },
        });
        let (digest, size) = put(layout, manifest.to_string().as_bytes());
        json!({ "mediaType": MANIFEST, "digest": digest.as_str(), "size": size, "platform": platform })
    }
}

impl Index {
    /// As [`Image::write`].
    pub fn write(&self, layout: &Path, tag: &str) -> Digest {
        begin(layout);
        let manifests: Vec<Value> = self.0.iter().map(|image| image.manifest(layout)).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let (digest, size) = put(layout, index.to_string().as_bytes());
        finish(layout, tag, json!({ "mediaType": INDEX, "digest": digest.as_str(), "size": size }))
    }
}

fn begin(layout: &Path) {
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a layout");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout");
}

/// Enters it into `index.json`, in the place of one with the same tag.
fn finish(layout: &Path, tag: &str, mut descriptor: Value) -> Digest {
    const NAME: &str = "org.opencontainers.image.ref.name";
    let file = layout.join("index.json");
    let mut index: Value = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).expect("an index"),
        Err(_) => json!({ "schemaVersion": 2, "manifests": [] }),
    };
    descriptor["annotations"] = json!({ NAME: tag });
    let digest = Digest::known(descriptor["digest"].as_str().expect("a digest"));
    let all = index["manifests"].as_array_mut().expect("a list");
    all.retain(|one| one["annotations"][NAME] != tag);
    all.push(descriptor);
    fs::write(file, index.to_string()).expect("an index");
    digest
}

fn put(layout: &Path, bytes: &[u8]) -> (Digest, u64) {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hexadecimal()), bytes).expect("a blob");
    (digest, bytes.len() as u64)
}

fn put_file(layout: &Path, file: &Path) -> (Digest, u64) {
    let bytes = fs::read(file).expect("a layer of the cache");
    let digest = Digest::of(&bytes);
    let blob = layout.join("blobs/sha256").join(digest.hexadecimal());
    if !blob.exists() && fs::hard_link(file, &blob).is_err() {
        fs::write(&blob, &bytes).expect("a blob");
    }
    (digest, bytes.len() as u64)
}

/// As gzip, the same bytes each time.
pub(super) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

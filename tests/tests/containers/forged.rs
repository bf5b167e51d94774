//! A registry that serves what is no image: ten thousand layers, a manifest of many megabytes, a list that contains itself, a layer that is
//! not what its digest says, a configuration that is no JSON. Each is the job's own failure, in words, and leaves nothing behind.

use crate::WITH_PODMAN;
use crate::cases::{Bed, Setup, out, succeeded};
use nunbird_handover::PullPolicy;
use nunbird_tests::containers::{Digest, Image, Job, Release, samples};
use nunbird_tests::needs;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BLOB: &str = "application/octet-stream";
/// The forged one.
const REPOSITORY: &str = "lattice/forged";

/// An image as the registry has it.
struct Parts {
    manifest: Value,
    blobs: Vec<(Digest, Vec<u8>)>,
}

impl Parts {
    fn of(image: &Image) -> Self {
        let layout = tempfile::tempdir().expect("a directory");
        let digest = image.write(layout.path(), "image");
        let read = |digest: &str| {
            let name = digest.strip_prefix("sha256:").expect("a digest");
            fs::read(layout.path().join("blobs/sha256").join(name)).expect("a blob")
        };
        let manifest: Value = serde_json::from_slice(&read(digest.as_str())).expect("JSON");
        let layers = manifest["layers"].as_array().expect("a list").iter();
        let blobs = layers.chain([&manifest["config"]]).map(|one| {
            let bytes = read(one["digest"].as_str().expect("a digest"));
            (Digest::of(&bytes), bytes)
        });
        Parts { blobs: blobs.collect(), manifest }
    }

    /// Its configuration as text, with one part of it replaced.
    fn with(self, old: &str, new: &str) -> Self {
        let text = String::from_utf8(self.blobs.last().expect("a configuration").1.clone()).expect("text");
        assert!(text.contains(old), "{old}: {text}");
        self.configured(text.replacen(old, new, 1).into_bytes())
    }

    /// Puts another configuration in the place of its own.
    fn configured(mut self, text: Vec<u8>) -> Self {
        let digest = Digest::of(&text);
        self.manifest["config"]["digest"] = json!(digest.as_str());
        self.manifest["config"]["size"] = json!(text.len());
        self.blobs.push((digest, text));
        self
    }
}

impl Bed {
    fn forge(&self, what: &str, kind: &str, digest: &Digest, body: Vec<u8>) {
        self.registry.front().forge(REPOSITORY, what, kind, digest, body);
    }

    fn forge_manifest(&self, kind: &str, manifest: &Value) {
        let text = manifest.to_string().into_bytes();
        let digest = Digest::of(&text);
        for what in ["manifests/1".to_owned(), format!("manifests/{digest}")] {
            self.forge(&what, kind, &digest, text.clone());
        }
    }

    fn forge_image(&self, parts: Parts) {
        self.forge_manifest(MANIFEST, &parts.manifest);
        for (digest, bytes) in parts.blobs {
            self.forge(&format!("blobs/{digest}"), BLOB, &digest, bytes);
        }
    }

    fn forged_job(&self) -> Job<'_> {
        let mut job = self.job();
        job.image().name = self.registry.name(&format!("{REPOSITORY}:1"));
        job.container().pull_timeout = 600;
        job
    }

    /// Prepares a job in it, which must be the job's failure in one of these words, long before the time for a pull is over.
    fn is_the_jobs_failure(&self, words: &[&str]) {
        let job = self.forged_job();
        let begin = Instant::now();
        let ended = job.prepare();
        assert_eq!(ended.status, Some(110), "{words:?}: {}\n{}", out(&ended), ended.err);
        assert!(begin.elapsed() < Duration::from_secs(500), "{words:?}: {:?}", begin.elapsed());
        assert!(words.iter().any(|word| ended.err.contains(word)), "{words:?}: {}", ended.err);
        let acts = |c: char| c == '\u{1b}' || c == '\u{202e}';
        assert!(!ended.err.contains(acts) && !out(&ended).contains(acts), "{}", ended.err);
        succeeded(&job.cleanup());
        self.node.assert_idle("after the cleanup");
        assert_eq!(self.node.administer("ls -A /tmp /var/tmp | grep nb- || :"), "", "{words:?}");
        let cache = self.node.administer("ls -A /home/nbt_cyn/ci/images 2>/dev/null | grep -v locks || :");
        assert_eq!(cache, "", "{words:?}");
        let left = self.node.administer("find /var/tmp/nunbird-41203/jobs /var/tmp/nunbird-41203/images-*/.new-* -mindepth 1 2>/dev/null || :");
        assert_eq!(left, "", "{words:?}");
        let mut never = self.forged_job();
        never.image().pull = vec![PullPolicy::Never];
        let ended = never.prepare();
        assert!(ended.err.contains("no copy of it is on this host"), "a part is no image: {}", ended.err);
        drop(never.cleanup());
    }

    /// How many layers Podman's own store has.
    fn layers(&self) -> usize {
        let script =
            "find /var/tmp/nunbird-41203/images-* -path '*/overlay/*' -name diff -prune 2>/dev/null | wc -l";
        self.node.administer(script).trim().parse().expect("a number")
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn ten_thousand_layers_are_the_jobs_failure_before_they_are_fetched(setup: Setup) {
    // Apptainer does not say how many it fetches, and for Podman one kind of ids is as the other.
    if setup.engine != "apptainer" && !(setup.engine == "podman" && setup.no_new_privileges) {
        let bed = Bed::new(setup, &samples::busybox());
        bed.forge_image(Parts::of(&samples::with_layers(10_000)));
        bed.is_the_jobs_failure(&["it has more than 256 layers"]);
        let asked = bed.registry.front().blobs().len();
        assert!(asked < 3000, "{asked} blobs were fetched");
        // What the next pull can use stays in an engine's own store.
        assert!(bed.layers() < 1500, "{}", bed.layers());
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn one_layer_ten_thousand_times_is_the_jobs_failure_with_charliecloud(setup: Setup) {
    if setup.engine == "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        let mut parts = Parts::of(&samples::with_layers(2));
        let layers = parts.manifest["layers"].as_array_mut().expect("a list");
        let last = layers[1].clone();
        layers.resize(10_000, last);
        let config = parts.blobs.last().expect("a configuration").1.clone();
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        let contents = config["rootfs"]["diff_ids"].as_array_mut().expect("a list");
        let last = contents[1].clone();
        contents.resize(10_000, last);
        config["history"] = json!(vec![json!({ "created": "2026-01-01T00:00:00Z" }); 10_000]);
        bed.forge_image(parts.configured(config.to_string().into_bytes()));
        bed.is_the_jobs_failure(&["it has more than 256 layers", "duplicate non-empty layer"]);
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_manifest_of_many_megabytes_is_the_jobs_failure(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let mut parts = Parts::of(&samples::busybox());
    parts.manifest["annotations"] = json!({ "long": "x".repeat(20 << 20) });
    bed.forge_image(parts);
    bed.is_the_jobs_failure(&["exceeded maximum allowed size", "larger than 4 MiB"]);
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_list_of_images_that_contains_itself_is_the_jobs_failure(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    // No list has its own digest in it, so that the registry lies as well.
    let own = Digest::of(b"a list that contains itself");
    let entry = |architecture: &str| {
        let platform = json!({ "architecture": architecture, "os": "linux" });
        json!({ "mediaType": INDEX, "digest": own.as_str(), "size": 500, "platform": platform })
    };
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry("amd64"), entry("arm64"), entry("ppc64le")] });
    bed.forge_manifest(INDEX, &list);
    bed.forge(&format!("manifests/{own}"), INDEX, &own, list.to_string().into_bytes());
    bed.is_the_jobs_failure(&["what the registry serves is no image"]);
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_layer_a_configuration_or_a_manifest_that_is_not_what_its_digest_says_is_the_jobs_failure(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let parts = || Parts::of(&samples::other("wanted"));
    let served = Parts::of(&samples::other("served"));
    // A whole layer, and a whole configuration: of another image.
    for number in [1, 2] {
        let mut parts = parts();
        parts.blobs[number].1.clone_from(&served.blobs[number].1);
        bed.forge_image(parts);
        bed.is_the_jobs_failure(&["not the one that its digest says"]);
    }
    // The name has the digest of one image, and the registry serves another under it.
    let wanted = Digest::of(parts().manifest.to_string().as_bytes());
    bed.forge_image(served);
    let other = Parts::of(&samples::other("served")).manifest.to_string().into_bytes();
    bed.forge(&format!("manifests/{wanted}"), MANIFEST, &wanted, other);
    let mut job = bed.forged_job();
    job.image().name = bed.registry.name(&format!("{REPOSITORY}@{wanted}"));
    let ended = job.prepare();
    assert_eq!(ended.status, Some(110), "{}\n{}", out(&ended), ended.err);
    assert!(ended.err.contains("not the one that its digest says"), "{}", ended.err);
    succeeded(&job.cleanup());
}

/// ch-image makes the names of its files from digests.
#[needs(root, in_each = WITH_PODMAN)]
fn digests_that_are_paths_write_and_read_nothing_outside_of_the_pull(setup: Setup) {
    if setup.engine == "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.administer("install -d -o nbt_cyn /home/nbt_cyn/victim");
        let path = format!("sha256:{}home/nbt_cyn/victim/", "../".repeat(20));
        let parts = || Parts::of(&samples::busybox());
        // By `victim/layer.tar.gz` and `victim/config.json`, each alone and both.
        for (layer, config) in [(true, false), (false, true), (true, true)] {
            let mut parts = parts();
            for (is_changed, pointer, name) in
                [(layer, "/layers/0/digest", "layer"), (config, "/config/digest", "config")]
            {
                if is_changed {
                    let number = if name == "layer" { 0 } else { parts.blobs.len() - 1 };
                    let bytes = parts.blobs[number].1.clone();
                    let digest = format!("{path}{name}");
                    *parts.manifest.pointer_mut(pointer).expect("a digest") = json!(digest);
                    // As a client puts such a name together.
                    let at = format!("/home/nbt_cyn/victim/{name}");
                    bed.registry.front().forge_at(&at, BLOB, &Digest::of(&bytes), bytes);
                }
            }
            bed.forge_image(parts);
            bed.is_the_jobs_failure(&["a digest of another form than sha256"]);
            assert_eq!(bed.node.administer("ls -A /home/nbt_cyn/victim"), "");
        }
        // A file of the host's is no layer.
        let secret = "cd /home/nbt_cyn/victim && echo secret >secret && tar -czf layer.tar.gz secret && chown nbt_cyn *";
        bed.node.administer(secret);
        let mut parts = parts();
        parts.manifest["layers"].as_array_mut().expect("a list").push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": format!("{path}layer"), "size": 200
        }));
        bed.forge_image(parts);
        bed.is_the_jobs_failure(&["a digest of another form than sha256"]);
        // Nor in a list of images.
        let entry = json!({ "mediaType": MANIFEST, "digest": format!("{path}layer"), "size": 500, "platform": { "architecture": "amd64", "os": "linux" } });
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        bed.forge_manifest(INDEX, &list);
        bed.is_the_jobs_failure(&["a digest of another form than sha256"]);
    }
}

/// A Python that does not read the guard could write anywhere.
#[needs(root, in_each = WITH_PODMAN)]
fn a_ch_image_that_nothing_keeps_in_its_directory_pulls_nothing(setup: Setup) {
    if setup.engine == "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.administer(
            "sed '1s,.*,#!/usr/bin/python3 -I,' /usr/bin/ch-image >/run/ch-image; chmod 755 /run/ch-image; mount --bind /run/ch-image /usr/bin/ch-image",
        );
        let job = bed.job();
        let ended = job.prepare();
        assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("nothing would keep ch-image in its directory"), "{}", ended.err);
        assert!(bed.registry.front().blobs().is_empty());
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_configuration_that_is_no_json_or_names_no_platform_is_the_jobs_failure(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let rest = r#""config": {}, "rootfs": { "type": "layers", "diff_ids": [] }, "history": []"#;
    let without_os = format!(r#"{{ "architecture": "amd64", {rest} }}"#);
    let without_architecture = format!(r#"{{ "os": "linux", {rest} }}"#);
    for text in ["this is no JSON", "{", "null", "[]", "{}", &without_os, &without_architecture] {
        // Apptainer says the same of a text that ends too early as of a connection that does, and needs none of what is missing in the others.
        if setup.engine == "apptainer" && !["this is no JSON", "[]"].contains(&text) {
            continue;
        }
        println!("{}: {text}", setup.engine);
        bed.forge_image(Parts::of(&samples::busybox()).configured(text.into()));
        bed.is_the_jobs_failure(&["what the registry serves is no image"]);
    }
}

/// What an image says of itself is the image's fault, and no part of an engine's answer to another question.
#[needs(root, in_each = WITH_PODMAN)]
fn a_platform_that_is_none_is_the_jobs_failure_and_is_masked(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let own = || Parts::of(&samples::busybox());
    let architecture = architecture(&own());
    for (key, value, platform) in [
        ("architecture", architecture.as_str(), r"amd64|x"),
        ("architecture", &architecture, r#"amd\"64"#),
        ("architecture", &architecture, r"amd64\nx"),
        ("architecture", &architecture, r"amd64\u001b[31m\u202e"),
        ("os", "linux", r"linux|x\n"),
    ]
    .into_iter()
    // Apptainer says of no image which platform it is for.
    .filter(|_| setup.engine != "apptainer")
    {
        println!("{}: {key} {platform}", setup.engine);
        let (old, new) = (format!(r#""{key}":"{value}""#), format!(r#""{key}":"{platform}""#));
        bed.forge_image(own().with(&old, &new));
        bed.is_the_jobs_failure(&["what the registry serves is no image"]);
    }
}

/// Words that the image may choose end no row of an engine's answer.
#[needs(root, in_each = WITH_PODMAN)]
fn an_image_whose_user_and_entrypoint_have_odd_characters_is_used(setup: Setup) {
    let odd = "a|b\"c\\|\n{{.}}";
    let image = samples::busybox()
        .set("User", json!(odd))
        .set("Entrypoint", json!(["/bin/env", format!("ODD={odd}")]));
    let bed = Bed::new(setup, &image);
    let job = bed.prepared();
    assert_eq!(succeeded(&job.run("printf %s \"$ODD\"")), odd);
    succeeded(&job.cleanup());
}

/// Python reads numbers and text that JSON does not have, and other depths. What only ch-image can read, Nunbird cannot judge.
#[needs(root, in_each = WITH_PODMAN)]
fn a_configuration_that_only_charliecloud_can_read_is_the_jobs_failure(setup: Setup) {
    if setup.engine == "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for value in ["NaN", "Infinity", "-Infinity", r#""\ud800""#, "1e999", &deep] {
            println!("{value}");
            let new = format!(r#""x":{value},"architecture""#);
            bed.forge_image(Parts::of(&samples::busybox()).with(r#""architecture""#, &new));
            bed.is_the_jobs_failure(&["what the registry serves is no image"]);
        }
        let parts = Parts::of(&samples::busybox());
        let mut text = "\u{feff}".as_bytes().to_vec();
        text.extend(&parts.blobs.last().expect("a configuration").1);
        bed.forge_image(parts.configured(text));
        bed.is_the_jobs_failure(&["what the registry serves is no image"]);
    }
}

fn architecture(parts: &Parts) -> String {
    let config: Value =
        serde_json::from_slice(&parts.blobs.last().expect("a configuration").1).expect("JSON");
    config["architecture"].as_str().expect("a name").to_owned()
}

/// A connection that breaks is no word of the registry's on the image: the next attempt may have it.
#[needs(root, in_each = WITH_PODMAN)]
fn a_configuration_that_is_cut_off_ends_the_pull_and_leaves_no_part_of_it(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let parts = Parts::of(&samples::busybox());
    let (digest, config) = parts.blobs.last().cloned().expect("a configuration");
    bed.forge_image(Parts::of(&samples::busybox()));
    let half = config.len() / 2;
    bed.registry.front().cut(REPOSITORY, &digest, config.clone(), half);
    let mut job = bed.forged_job();
    job.container().pull_timeout = 120;
    let ended = job.prepare();
    println!("{}: {:?} {}", setup.engine, ended.status, ended.err);
    assert!(matches!(ended.status, Some(110 | 120)), "{}\n{}", out(&ended), ended.err);
    assert!(ended.err.contains("cannot pull the image"), "{}", ended.err);
    let cache = bed.node.administer("ls -A /home/nbt_cyn/ci/images 2>/dev/null | grep -v locks || :");
    assert_eq!(cache, "");
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
    bed.forge(&format!("blobs/{digest}"), BLOB, &digest, config);
    let job = bed.forged_job();
    succeeded(&job.prepare());
    assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
    succeeded(&job.cleanup());
}

/// Podman 4 writes the names of all layers into one page of mount options. Newer ones take 500.
#[needs(root)]
fn an_image_with_more_layers_than_podman_puts_together_is_the_jobs_failure_with_the_way_out() {
    if WITH_PODMAN[0].release == Release::Host {
        let bed = Bed::new(WITH_PODMAN[0], &samples::with_layers(140));
        let mut job = bed.job();
        job.container().pull_timeout = 600;
        let ended = job.prepare();
        assert_eq!(ended.status, Some(110), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("more layers than Podman can put together"), "{}", ended.err);
        assert!(ended.err.contains("--squash-all"), "{}", ended.err);
        succeeded(&job.cleanup());
        assert_eq!(bed.node.administer("ls -A /tmp /var/tmp | grep nb- || :"), "");
    }
}

//! An image that is here, as the later stages of a job use it: whatever its name means by then.

use nunbird_handover::Container;
use serde::{Deserialize, Serialize};

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// Its name in full.
    pub name: String,
    /// The word for the engine's `create` and `enter`: an id, or a path.
    pub for_create: String,
    /// Its digest, where that is known.
    pub digest: Option<String>,
    /// `linux/amd64`, where that is known.
    pub platform: Option<String>,
    /// The user that it names.
    pub user: Option<String>,
    /// Its own entrypoint.
    pub entrypoint: Vec<String>,
    /// TCP ports that it says its servers listen on.
    pub ports: Vec<u16>,
    /// What a file or directory that the job names is known by, so that another one in its place is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl Resolved {
    /// One of which nothing more is known.
    pub(crate) fn new(name: String, for_create: String) -> Self {
        Resolved {
            name,
            for_create,
            digest: None,
            platform: None,
            user: None,
            entrypoint: Vec::new(),
            ports: Vec::new(),
            state: None,
        }
    }

    /// Whether its platform has all of its parts and they are names, if it is known at all: each image's configuration has them.
    pub(crate) fn is_whole(&self) -> bool {
        let is_name = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        self.platform.as_ref().is_none_or(|platform| platform.split('/').all(is_name))
    }

    /// Its platform, if that is not this host's.
    pub(crate) fn foreign(&self) -> Option<&str> {
        self.platform.as_deref().filter(|platform| self.is_whole() && is_foreign(platform))
    }

    /// What stands in front of the shell: the job's entrypoint, or else the image's; `None` without
    /// either.
    pub fn entrypoint(&self, container: &Container) -> Option<Vec<String>> {
        let of_job = container.image.as_ref().and_then(|image| image.entrypoint.as_ref());
        // `entrypoint: [""]` is how a job says none (GitLab's documentation of `image:entrypoint`).
        let words = of_job.unwrap_or(&self.entrypoint);
        (!words.is_empty() && words.iter().any(|word| !word.is_empty())).then(|| words.clone())
    }
}

/// Whether a platform such as `linux/arm64` is not this host's.
pub(crate) fn is_foreign(platform: &str) -> bool {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    platform.split('/').nth(1) != Some(own)
}

/// The ports in a JSON object such as `{"80/tcp":{},"53/udp":{}}`.
pub(crate) fn tcp_ports(json: &str) -> Vec<u16> {
    let ports: Option<std::collections::BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(json).unwrap_or_default();
    let number = |name: String| match name.split_once('/') {
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
        None => name.parse().ok(),
    };
    let mut ports: Vec<u16> = ports.unwrap_or_default().into_keys().filter_map(number).collect();
    ports.sort_unstable();
    ports
}

#[cfg(test)]
mod tests {
    use super::{Resolved, tcp_ports};
    use crate::testing::container;

    #[test]
    fn the_jobs_entrypoint_replaces_the_images_and_an_empty_word_is_none() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image =
            Resolved { entrypoint: words(&["/init"]), ..Resolved::new("a".to_owned(), "a".to_owned()) };
        let mut container = container();
        assert_eq!(image.entrypoint(&container), Some(words(&["/init"])));
        for (of_job, expected) in [
            (words(&[]), None),
            (words(&[""]), None),
            (words(&["/bin/env", "A=b"]), Some(words(&["/bin/env", "A=b"]))),
        ] {
            container.image.as_mut().expect("an image").entrypoint = Some(of_job);
            assert_eq!(image.entrypoint(&container), expected);
        }
        let plain = Resolved { entrypoint: Vec::new(), ..image };
        container.image.as_mut().expect("an image").entrypoint = None;
        assert_eq!(plain.entrypoint(&container), None);
    }

    #[test]
    fn a_platform_without_one_of_its_parts_is_not_whole_and_an_unknown_one_is() {
        for (platform, is_whole) in [
            (None, true),
            (Some("linux/amd64"), true),
            (Some("linux/arm/v7"), true),
            (Some("/"), false),
            (Some("linux/"), false),
            (Some("/amd64"), false),
            (Some("linux/amd64|x"), false),
            (Some("linux/\"amd64\""), false),
            (Some("lin\nux/amd64"), false),
            (Some("linux/\u{1b}[31m"), false),
        ] {
            let plain = Resolved::new("a".to_owned(), "a".to_owned());
            let image = Resolved { platform: platform.map(str::to_owned), ..plain };
            assert_eq!(image.is_whole(), is_whole, "{platform:?}");
        }
    }

    #[test]
    fn ports_of_tcp_are_read_in_order() {
        assert_eq!(tcp_ports(r#"{"8080/tcp":{},"53/udp":{},"80/tcp":{},"9":{}, "x/tcp":{}}"#), [9, 80, 8080]);
        assert!(tcp_ports("null").is_empty() && tcp_ports("").is_empty() && tcp_ports("[]").is_empty());
    }
}

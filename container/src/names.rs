//! Names of images, checked before any engine sees them.
//!
//! A name is a user's text. What passes here cannot be an option of an engine's command, has no
//! character that a terminal or a shell acts on, and is a path only where the engine takes paths.

use crate::description::{Images, Kind};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The longest name, in bytes; registries allow 255 for the part before the tag.
const LONGEST: usize = 512;
/// The longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// A name that an engine takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// In a registry that speaks the protocol of Docker's.
    Registry(Reference),
    /// Of another scheme that the engine knows: `library://…`.
    Other {
        /// Before `://`.
        scheme: String,
        /// After it.
        rest: String,
    },
    /// A file or directory of this host.
    Path(PathBuf),
}

/// A name in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `docker`, or another scheme of the same form: `oras`.
    pub scheme: String,
    /// Host name, with port if there is one.
    pub registry: String,
    /// Path in the registry.
    pub repository: String,
    /// None if there is a digest.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadName {}

fn bad<T>(cause: impl Into<String>) -> Result<T, BadName> {
    Err(BadName(cause.into()))
}

impl ImageName {
    /// Parses a name in a job's or a site's words.
    ///
    /// # Errors
    /// What is wrong with the name, or that the engine does not take names of its kind.
    pub fn parse(text: &str, images: &Images) -> Result<Self, BadName> {
        if images.kind == Kind::None {
            return bad("the engine has no images");
        }
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > LONGEST {
            return bad(format!("it is longer than {LONGEST} bytes"));
        }
        if text.starts_with('-') {
            return bad("it begins with `-`, as an option does");
        }
        if !is_plain(text.as_bytes()) {
            return bad(NOT_PLAIN);
        }
        if text.starts_with('/') {
            return path(text, images);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("docker", text));
        if !images.schemes.iter().any(|known| known == scheme) {
            return bad(format!("the engine takes no names with `{scheme}://`"));
        }
        if matches!(scheme, "docker" | "oras") {
            return reference(scheme, rest, images.default_registry.as_deref()).map(ImageName::Registry);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:@+=~%-".contains(&byte);
        let parts = rest.split('/');
        if rest.is_empty() || !rest.bytes().all(plain) || parts.clone().any(|part| part == "..") {
            return bad("it has characters that no name of its scheme has, or `..`");
        }
        if rest.starts_with(['-', '/']) {
            return bad("it has no name behind its scheme");
        }
        Ok(ImageName::Other { scheme: scheme.to_owned(), rest: rest.to_owned() })
    }

    /// The name in full: `docker.io/library/alpine:latest`; with its scheme, unless that is
    /// `docker`.
    pub fn full(&self) -> String {
        match self {
            ImageName::Registry(name) if name.scheme == "docker" => name.to_string(),
            ImageName::Registry(name) => format!("{}://{name}", name.scheme),
            ImageName::Other { scheme, rest } => format!("{scheme}://{rest}"),
            ImageName::Path(path) => path.display().to_string(),
        }
    }

    /// The name as the engine takes it.
    pub fn for_engine(&self, images: &Images) -> String {
        match self {
            ImageName::Registry(name) if name.scheme == "docker" => {
                images.form.replace("{name}", &name.to_string())
            }
            other => other.full(),
        }
    }

    /// What an engine has printed, without this name in it: `denied:1` may be an image and its tag.
    pub(crate) fn masked(&self, printed: &str) -> String {
        let masked = printed.replace(&self.full(), "IMAGE");
        match self {
            ImageName::Registry(name) => masked
                .replace(&format!("{}/{}", name.registry, name.repository), "IMAGE")
                .replace(&format!("manifest {} ", name.tag.as_deref().unwrap_or_default()), "manifest TAG "),
            _ => masked,
        }
    }

    /// The digest, where the name has one.
    pub fn digest(&self) -> Option<&str> {
        match self {
            ImageName::Registry(name) => name.digest.as_deref(),
            _ => None,
        }
    }

    /// A file name that no other image has: readable, and bounded.
    pub fn file_name(&self, platform: Option<&str>) -> String {
        let full = format!("{} {}", self.full(), platform.unwrap_or_default());
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let readable: String = self.full().chars().map(plain).collect();
        let readable = readable.trim_start_matches(['.', '-']);
        let cut = readable.get(readable.len().saturating_sub(80)..).unwrap_or(readable);
        format!("{}-{}", cut.trim_start_matches(['.', '-']), sum(&full))
    }
}

/// FNV-1a of 128 bits: names of one account, which gains nothing from two that meet.
fn sum(text: &str) -> String {
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// What is wrong with a name that is not plain.
pub(crate) const NOT_PLAIN: &str = "it has spaces, control characters or characters that are not ASCII";

/// Whether a name or path has only characters that an image's name may have.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

fn path(text: &str, images: &Images) -> Result<ImageName, BadName> {
    let path = Path::new(text);
    if !images.directories && images.extensions.is_empty() {
        return bad("it is a path, and the engine takes none");
    }
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain || text.contains("/./") || text.contains("//") || text.ends_with("/.") || text == "/" {
        return bad("a path must have neither `.` nor `..` nor an empty part");
    }
    let is_file = images.extensions.iter().any(|end| text.ends_with(end.as_str()));
    if !is_file && !images.directories {
        return bad(format!("a file must end in {}", images.extensions.join(" or ")));
    }
    Ok(ImageName::Path(path.to_owned()))
}

fn reference(scheme: &str, text: &str, default: Option<&str>) -> Result<Reference, BadName> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return bad("behind `@` must be a digest: `sha256:` and 64 hexadecimal digits");
    }
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return bad("its tag has a character that no tag has, or is longer than 128 bytes");
    }
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if is_host(first) => (first.to_owned(), rest.to_owned()),
        _ => {
            let Some(default) = default else { return bad("it names no registry") };
            let short = default == "docker.io" && !path.contains('/');
            (default.to_owned(), if short { format!("library/{path}") } else { path.to_owned() })
        }
    };
    if !is_registry(&registry) {
        return bad(format!("`{registry}` is no name of a registry"));
    }
    if repository.len() > 255 || !repository.split('/').all(is_component) {
        return bad(
            "its path must consist of lower-case letters, digits and single `.`, `_` or `-` between them",
        );
    }
    let tag = match (tag, digest) {
        (_, Some(_)) => None,
        (tag, None) => Some(tag.unwrap_or("latest").to_owned()),
    };
    let digest = digest.map(str::to_owned);
    Ok(Reference { scheme: scheme.to_owned(), registry, repository, tag, digest })
}

/// Whether this is a digest that identifies an image.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 255
        && host.split('.').all(label)
        && port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()))
}

/// As the distribution specification has it: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(alphanumeric))
        && text.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte))
        && !["..", "._", "_.", ".-", "-.", "_-", "-_", "___"].iter().any(|pair| text.contains(pair))
}

#[cfg(test)]
mod tests {
    use super::{ImageName, is_component};
    use crate::description::{Images, podman};
    use proptest::prelude::{any, proptest};

    fn files() -> Images {
        let text = "kind = \"file\"\nschemes = [\"docker\", \"oras\", \"library\"]\nextensions = [\".sif\"]\n\
                    directories = true\ndefault_registry = \"docker.io\"\nform = \"docker://{name}\"";
        toml::from_str(text).expect("images")
    }

    fn full(text: &str) -> String {
        ImageName::parse(text, &podman().images).unwrap_or_else(|e| panic!("{text}: {e}")).full()
    }

    #[test]
    fn a_plain_name_is_one_of_dockers_registry_as_with_docker() {
        for (name, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker://alpine:3.19", "docker.io/library/alpine:3.19"),
            ("group/tool", "docker.io/group/tool:latest"),
            // No transport of the engine's, which could name what is not the account's.
            ("containers-storage:a", "docker.io/library/containers-storage:a"),
            ("localhost/tool:1", "localhost/tool:1"),
            ("localhost:5000/tool", "localhost:5000/tool:latest"),
            ("r.example.org/a/b/c__d-e.f:X.1-y_z", "r.example.org/a/b/c__d-e.f:X.1-y_z"),
            ("R.example.org:8443/a", "R.example.org:8443/a:latest"),
        ] {
            assert_eq!(full(name), whole);
        }
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(full(&format!("a:1@{digest}")), format!("docker.io/library/a@{digest}"));
        let name = ImageName::parse("alpine", &files()).expect("a name");
        assert_eq!(name.for_engine(&files()), "docker://docker.io/library/alpine:latest");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("a:{}", "x".repeat(129));
        for name in [
            "",
            "-v",
            "--privileged",
            "a b",
            "a\nb",
            "a\u{1b}[31m",
            "ä",
            "A",
            "a//b",
            "a/",
            "/a",
            "a:",
            "a:b:c",
            "a@sha256:12",
            "a@md5:00",
            "a;b",
            "$(id)",
            "a`b`",
            "../a",
            "a/../b",
            "a/.b",
            "http://a/b",
            "dir:/etc",
            "docker://",
            "docker://-a",
            "a:-b",
            ":a",
            "@sha256:0",
            "r..x/a",
            "-r.x/a",
            &long,
        ] {
            let parsed = ImageName::parse(name, &podman().images);
            assert!(parsed.is_err(), "{name:?} {parsed:?}");
        }
        assert!(ImageName::parse(&"a".repeat(600), &podman().images).is_err());
    }

    #[test]
    fn a_path_is_taken_only_as_a_whole_and_where_the_engine_takes_paths() {
        for (path, good) in [
            ("/apps/x.sif", true),
            ("/apps/tree", true),
            ("/apps/../etc/x.sif", false),
            ("/apps/./x.sif", false),
            ("/apps//x.sif", false),
            ("/", false),
            ("/apps/x\n.sif", false),
            ("apps/x.sif", true),
        ] {
            assert_eq!(ImageName::parse(path, &files()).is_ok(), good, "{path}");
            assert!(!path.starts_with('/') || ImageName::parse(path, &podman().images).is_err(), "{path}");
        }
        let no_directories = Images { directories: false, ..files() };
        assert!(ImageName::parse("/apps/tree", &no_directories).is_err());
        assert!(ImageName::parse("library://a/../b", &files()).is_err());
        assert_eq!(ImageName::parse("library://a/b:1", &files()).expect("a name").full(), "library://a/b:1");
    }

    #[test]
    fn two_images_have_two_file_names() {
        let name =
            |text: &str, platform| ImageName::parse(text, &files()).expect("a name").file_name(platform);
        let long = format!("r.example.org/{}", "x/".repeat(100) + "a");
        let names = [
            name("a_b", None),
            name("a/b", None),
            name("a:b", None),
            name("a", Some("linux/arm64")),
            name("a", None),
            name(&long, None),
            name(&format!("{long}:1"), None),
        ];
        for (n, one) in names.iter().enumerate() {
            assert!(!names[..n].contains(one) && one.len() < 160, "{one}");
            assert!(!one.contains('/') && !one.starts_with(['.', '-']), "{one}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_one_harmless_word_and_parses_again_to_itself(text in any::<String>(), more in "[a-z0-9./:@_-]{0,40}") {
            for text in [&text, &more, &format!("docker://{more}"), &format!("/{more}.sif")] {
                let Ok(name) = ImageName::parse(text, &files()) else { continue };
                let full = name.full();
                let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+=~%".contains(&byte);
                assert!(matches!(name, ImageName::Path(_)) || full.bytes().all(harmless), "{full:?}");
                assert!(!full.starts_with('-') && full.bytes().all(|byte| byte.is_ascii_graphic()), "{full:?}");
                assert!(!full.split('/').any(|part| part == ".."), "{full:?}");
                assert_eq!(ImageName::parse(&full, &files()).as_ref(), Ok(&name));
            }
        }

        #[test]
        fn a_component_is_what_the_specification_says(text in "[a-z0-9._A-Z-]{0,8}") {
            let expected = regex(&text);
            assert_eq!(is_component(&text), expected, "{text}");
        }
    }

    fn regex(text: &str) -> bool {
        use nunbird_stage::template::Whole;
        #[derive(serde::Deserialize)]
        struct One {
            pattern: Whole,
        }
        let one: One = toml::from_str("pattern = '[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*'").expect("a pattern");
        one.pattern.is_match(text)
    }
}

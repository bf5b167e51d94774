//! Names of container images: which of several ways of writing one means which registry, and what patterns are matched with.
//!
//! What is judged is what the engine gets: a name without a registry is completed here, as docker completes it, and not by the
//! engine, whose own lists of registries could lead elsewhere.

use crate::Pattern;
use std::fmt;

/// The registry of names that name none.
const DOCKER_HUB: &str = "docker.io";
/// The longest name, in bytes.
const MAX_NAME: usize = 1024;

/// A name of an image, in a form that means one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// As it was written.
    words: String,
    /// As the engine gets it.
    full: String,
    reference: Option<Reference>,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    /// Host, in lower case, with a port other than 443.
    registry: String,
    /// With the registry, without tag and digest.
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageName {
    /// Reads a name.
    ///
    /// # Errors
    /// When it is none: the words say what is wrong with it.
    pub fn parse(words: &str) -> Result<Self, &'static str> {
        if words.is_empty() || words.len() > MAX_NAME {
            return Err("it is empty or longer than 1024 bytes");
        }
        if words.starts_with('/') {
            return path(words);
        }
        if words.starts_with("./") || words.starts_with("../") || is_file_without_a_path(words) {
            return Err(
                "a file or directory is named by its whole path, which begins with `/`: the image is brought before there are sources",
            );
        }
        match words.split_once("://") {
            None => Ok(of_registry(words, reference(words)?, "")),
            Some(("docker", rest)) => Ok(of_registry(words, reference(rest)?, "")),
            Some(("oras", rest)) => Ok(of_registry(words, reference(rest)?, "oras://")),
            Some(("library", rest)) if is_library(rest) => {
                Ok(ImageName { words: words.to_owned(), full: words.to_owned(), reference: None })
            }
            Some(("library", _)) => Err("what follows `library://` is no path of an image"),
            Some(_) => Err("only `docker://`, `oras://` and `library://` may come before a name"),
        }
    }

    /// The name for the engine: with registry and tag or digest; an absolute path; or `oras://…` and `library://…`.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The registry's host, with a port where it is not 443; none for what comes from no registry of that protocol.
    pub fn registry(&self) -> Option<&str> {
        self.reference.as_ref().map(|reference| reference.registry.as_str())
    }

    /// Registry and path, without tag and digest.
    pub fn repository(&self) -> Option<&str> {
        self.reference.as_ref().map(|reference| reference.repository.as_str())
    }

    /// The tree of machines that it names and its version, `latest` for the present one; none for what is written as anything else.
    pub fn tree(&self) -> Option<(&str, &str)> {
        let (tree, version) = self.words.split_once(':').unwrap_or((&self.words, "latest"));
        (!self.words.contains(['/', '@'])).then_some((tree, version))
    }

    /// Whether the name is one for good: a digest, or a path, whose contents the site or the user decides on.
    pub fn is_fixed(&self) -> bool {
        match &self.reference {
            Some(reference) => reference.digest.is_some(),
            None => self.full.starts_with('/'),
        }
    }

    /// Whether it is a file or directory of the host.
    pub fn is_path(&self) -> bool {
        self.reference.is_none() && self.full.starts_with('/')
    }

    /// Whether a pattern of `allowed_images` lets it pass: by the words, or by the full name. With a digest the full
    /// name alone counts: the digest says what runs, and a tag before it is no more than the user's word. So it does of a path: in the
    /// words may be `//` and a last `/`, between which `*` would stand for nothing.
    pub fn is_allowed_by(&self, pattern: &Pattern) -> bool {
        let has_digest = self.reference.as_ref().is_some_and(|reference| reference.digest.is_some());
        (!has_digest && !self.is_path() && pattern.matches(&self.words)) || self.is_called_by(pattern)
    }

    /// Whether a pattern of `allowed_images` can let names of its kind pass: a path is let pass by a pattern of paths alone, so
    /// that `**` opens no file of the host.
    pub fn is_of_the_kind_of(&self, pattern: &Pattern) -> bool {
        !self.is_path() || pattern.to_string().starts_with('/')
    }

    fn is_called_by(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.full) || self.plain().any(|name| pattern.matches(&name))
    }

    /// Whether a pattern of `denied_images` keeps it out: as above, and by the name without tag or digest, so that no
    /// way of writing it avoids the pattern.
    pub fn is_denied_by(&self, pattern: &Pattern) -> bool {
        let shorter = self.reference.iter().flat_map(|reference| {
            let tagged = reference.tag.as_ref().map(|tag| format!("{}:{tag}", reference.repository));
            tagged.into_iter().chain([reference.repository.clone()])
        });
        pattern.matches(&self.words)
            || self.is_called_by(pattern)
            || shorter.into_iter().any(|name| pattern.matches(&name))
    }

    /// The full name without `oras://`.
    fn plain(&self) -> impl Iterator<Item = String> + '_ {
        self.reference.iter().map(Reference::full)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Reference {
    /// A digest makes a tag meaningless, and some engines refuse both.
    fn full(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.repository),
            (None, Some(tag)) => format!("{}:{tag}", self.repository),
            (None, None) => format!("{}:latest", self.repository),
        }
    }
}

fn of_registry(words: &str, reference: Reference, scheme: &str) -> ImageName {
    ImageName {
        words: words.to_owned(),
        full: format!("{scheme}{}", reference.full()),
        reference: Some(reference),
    }
}

/// Whether it looks like a file of an image: no registry is named, and no tag.
fn is_file_without_a_path(words: &str) -> bool {
    let has_end = [".sif", ".sqfs", ".squashfs"].iter().any(|end| words.ends_with(end));
    let first = words.split_once('/').map(|(first, _)| first);
    has_end && !words.contains(':') && !first.is_some_and(|first| first.contains('.') || first == "localhost")
}

/// An absolute path: of a file `.sif` or `.sqfs`, or of a directory.
fn path(words: &str) -> Result<ImageName, &'static str> {
    if words.split('/').any(|part| part == "." || part == "..") {
        return Err("a path of an image has no `.` and `..`");
    }
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | '=' | ':');
    if !words.chars().all(plain) {
        return Err("a path of an image has letters, digits and -_.+@=: alone");
    }
    // `//` is `/`, and no pattern is to miss it.
    let parts: Vec<&str> = words.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err("the whole file system is no image");
    }
    Ok(ImageName { words: words.to_owned(), full: format!("/{}", parts.join("/")), reference: None })
}

fn reference(text: &str) -> Result<Reference, &'static str> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) if is_digest(digest) => (text, Some(digest.to_owned())),
        Some(_) => return Err("what follows `@` is no digest: `sha256:` and 64 digits in lower case"),
        None => (text, None),
    };
    let (text, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            if !is_tag(tag) {
                return Err("the tag has other characters than letters, digits and ._-");
            }
            (name, Some(tag.to_owned()))
        }
        _ => (text, None),
    };
    let (registry, path) = match text.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (host_of(host)?, path.to_owned())
        }
        Some(_) => (DOCKER_HUB.to_owned(), text.to_owned()),
        None => (DOCKER_HUB.to_owned(), format!("library/{text}")),
    };
    let path = match path.split_once('/') {
        None if registry == DOCKER_HUB => format!("library/{path}"),
        _ => path,
    };
    if path.len() > 255 || !path.split('/').all(is_component) {
        return Err(
            "the name has other characters than lower-case letters, digits and ._-/, or begins or ends with one of these",
        );
    }
    Ok(Reference { repository: format!("{registry}/{path}"), registry, tag, digest })
}

/// A host and its port; the several names of one registry become one.
fn host_of(text: &str) -> Result<String, &'static str> {
    let wrong = "the registry is no host name with an optional port";
    let text = text.to_ascii_lowercase();
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text.as_str(), None),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(wrong);
    }
    let host = if ["index.docker.io", "registry-1.docker.io"].contains(&host) { DOCKER_HUB } else { host };
    match port {
        None | Some("443") => Ok(host.to_owned()),
        Some(port) => {
            let number: u16 = port.parse().map_err(|_| wrong)?;
            if number.to_string() == port && number != 0 { Ok(format!("{host}:{port}")) } else { Err(wrong) }
        }
    }
}

/// A registry, with or without a path, in the form in which [`ImageName::repository`] has it. None for what is no name of one.
pub fn repository_name(text: &str) -> Option<String> {
    let (host, path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    let host = host_of(host).ok()?;
    match path {
        None => Some(host),
        Some(path) => path.split('/').all(is_component).then(|| format!("{host}/{path}")),
    }
}

fn is_component(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner) && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hexadecimal))
}

/// What Apptainer has behind `library://`.
fn is_library(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with(['-', '/']) && !text.contains("..")
}

/// The names by which a job reaches a service: its own, then those that come from the image, as gitlab-runner makes them: the image's name
/// without tag and port, with `__` or `-` for each `/` (executors/docker/services.go).
pub fn service_names(image: &str, own: &[String]) -> Vec<String> {
    let name = image.rsplit_once("://").map_or(image, |(_, rest)| rest);
    let name = name.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let name = match name.split_once('/') {
        Some((host, path)) => format!("{}/{path}", host.split(':').next().unwrap_or_default()),
        None => name.to_owned(),
    };
    let mut names = own.to_vec();
    for alias in [name.replace('/', "__"), name.replace('/', "-")] {
        if !names.contains(&alias) {
            names.push(alias);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::ImageName;
    use crate::Pattern;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_way_of_writing_one_image_is_one_name() {
        for (words, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.19", "docker.io/library/alpine:3.19"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("docker://alpine", "docker.io/library/alpine:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("localhost/b", "localhost/b:latest"),
            ("localhost:5000/b:1", "localhost:5000/b:1"),
            ("Registry.Example.Org:443/a/b:V1", "registry.example.org/a/b:V1"),
            ("r.example.org:5000/a", "r.example.org:5000/a:latest"),
            ("oras://r.example.org/a:1", "oras://r.example.org/a:1"),
            ("library://lab/tools/gcc:12", "library://lab/tools/gcc:12"),
            ("/opt//images/gcc.sif", "/opt/images/gcc.sif"),
        ] {
            let name = ImageName::parse(words).expect(words);
            assert_eq!(name.full(), full, "{words}");
            if !words.contains("oras") {
                assert_eq!(ImageName::parse(name.full()).expect(full).full(), full, "{words}");
            }
        }
        let fixed = ImageName::parse(&format!("r.example.org/a:1@{DIGEST}")).expect("a name");
        assert_eq!(fixed.full(), format!("r.example.org/a@{DIGEST}"));
        assert!(fixed.is_fixed() && ImageName::parse("/a.sif").is_ok_and(|name| name.is_fixed()));
        assert!(!ImageName::parse("a:1").is_ok_and(|name| name.is_fixed()));
        assert_eq!((fixed.registry(), fixed.repository()), (Some("r.example.org"), Some("r.example.org/a")));
    }

    #[test]
    fn a_tag_before_a_digest_opens_no_pattern_and_avoids_none() {
        let pattern = |text: &str| Pattern::new(text).expect(text);
        let name = ImageName::parse(&format!("r.example.org/a:release-1@{DIGEST}")).expect("a name");
        for allowed in ["r.example.org/a:release-*", "r.example.org/a:*", "*:release-1*"] {
            assert!(!name.is_allowed_by(&pattern(allowed)), "{allowed}");
        }
        for allowed in ["r.example.org/a@sha256:*", "r.example.org/**", "r.example.org/a@*"] {
            assert!(name.is_allowed_by(&pattern(allowed)), "{allowed}");
        }
        assert!(name.is_denied_by(&pattern("r.example.org/a:release-*")));
        let tagged = ImageName::parse("r.example.org/a:release-1").expect("a name");
        assert!(tagged.is_allowed_by(&pattern("r.example.org/a:release-*")));
    }

    #[test]
    fn what_looks_like_an_option_a_path_or_another_transport_is_no_name() {
        for words in [
            "",
            "-v",
            "--privileged",
            "a b",
            "A",
            "a/../b",
            "./a",
            "../a",
            "a/./b",
            "a//b",
            "/",
            "/a/../b",
            "/a b",
            "/a\nb",
            "/$HOME/x",
            "dir:/etc",
            "docker-archive:/x.tar",
            "docker-daemon:a:b",
            "./tool.sif",
            "../tool",
            "tool.sif",
            "build/tool.sqfs",
            "https://example.org/x.sif",
            "file:///etc",
            "docker://",
            "library://",
            "library://-x",
            "r.example.org./a",
            "r.example.org:/a",
            "r.example.org:0443/a",
            "[::1]:5000/a",
            "user@r.example.org/a",
            "r.example.org/a@sha256:abc",
            "a:b:c",
            "a:",
            "a:-x",
            "ä",
            "a\u{202e}b",
        ] {
            assert!(ImageName::parse(words).is_err(), "{words}: {:?}", ImageName::parse(words));
        }
    }

    /// No `*` stands for a name that a path does not have.
    #[test]
    fn a_pattern_of_paths_sees_the_path_that_is_opened() {
        for (pattern, words) in [
            ("/opt/images/**", "/opt/images/"),
            ("/opt/images/*", "/opt/images/"),
            ("/home/*/images/*.sif", "/home//images/x.sif"),
            ("/opt/images/*/*.sif", "/opt/images//top.sif"),
        ] {
            let name = ImageName::parse(words).expect(words);
            assert!(!name.is_allowed_by(&Pattern::new(pattern).expect("a pattern")), "{pattern} {words}");
        }
    }

    #[test]
    fn a_pattern_sees_the_words_and_the_full_name_and_a_denial_every_shorter_one() {
        let allowed = |pattern: &str, words: &str| {
            ImageName::parse(words).expect(words).is_allowed_by(&Pattern::new(pattern).expect("a pattern"))
        };
        let denied = |pattern: &str, words: &str| {
            ImageName::parse(words).expect(words).is_denied_by(&Pattern::new(pattern).expect("a pattern"))
        };
        assert!(allowed("ruby:*", "ruby:3") && allowed("docker.io/library/**", "ruby:3"));
        assert!(
            allowed("r.example.org/**", "R.example.org:443/a/b")
                && !allowed("r.example.org/*", "r.example.org/a/b")
        );
        assert!(!allowed("r.example.org/**", "r.example.org.evil.org/a") && !allowed("ruby", "ruby:3"));
        assert!(allowed("r.example.org/**", "oras://r.example.org/a"));
        assert!(
            allowed("/opt/images/**", "/opt/images/a.sif")
                && !allowed("/opt/images/**", "/opt/other/a.sif")
                && allowed("/opt/images/*/*.sif", "/opt//images/a/top.sif/")
        );
        assert!(denied("/opt/secret/**", "/opt//secret/a.sif"));
        assert!(denied("docker.io/library/ruby", "ruby:3") && denied("docker.io/**", "docker://ruby"));
        assert!(denied("r.example.org/a:bad", &format!("r.example.org/a:bad@{DIGEST}")));
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_that_stays_what_it_is_or_none(words in "\\PC{0,40}") {
            if let Ok(name) = ImageName::parse(&words) {
                prop_assert!(!name.full().starts_with('-') && !name.full().contains(".."));
                let again = ImageName::parse(name.full()).expect("a name");
                prop_assert_eq!(again.full(), name.full());
            }
        }

        #[test]
        fn a_name_of_parts_stays_what_it_is(words in "([a-z]{1,3}[.:]?[a-z0-9]{0,3}/)?[a-z./:@-]{1,12}") {
            if let Ok(name) = ImageName::parse(&words) {
                let again = ImageName::parse(name.full()).expect("a name");
                prop_assert_eq!(again.full(), name.full());
            }
        }
    }
}

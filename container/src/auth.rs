//! Passwords for a registry, in the file that engines read (`docker login` writes the same).
//!
//! It lies in the private runtime directory, only while an image is pulled: it is removed on every
//! path of this process, and with the directory if this process is killed. No password is in an
//! argument or in an environment.

use crate::names::Reference;
use nunbird_handover::{Credential, Credentials};
use nunbird_stage::small_files;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file, removed on drop.
#[derive(Debug)]
pub(crate) struct AuthFile(PathBuf);

impl AuthFile {
    /// Writes those passwords that are for the image's registry; an empty file for none, so that the
    /// engine looks nowhere else.
    pub(crate) fn write(
        directory: &Path,
        image: Option<&Reference>,
        credentials: &Credentials,
    ) -> io::Result<Self> {
        let file = AuthFile(directory.join("auth.json"));
        let mut auths = serde_json::Map::new();
        for one in matching(image, credentials) {
            let entry = match one.user.as_str() {
                // Engines skip an entry without a user name, although they do not use it.
                Credential::TOKEN => serde_json::json!({
                    "auth": base64(format!("{}:", Credential::TOKEN).as_bytes()), "identitytoken": one.password,
                }),
                user => {
                    serde_json::json!({ "auth": base64(format!("{user}:{}", one.password).as_bytes()) })
                }
            };
            auths.insert(plain(&one.registry).to_owned(), entry);
        }
        let text = serde_json::json!({ "auths": auths }).to_string();
        small_files::replace(&file.0, &[text.as_bytes()])?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for AuthFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The passwords for the image's registry, or for a part of it that has the image.
pub(crate) fn matching<'c>(
    image: Option<&'c Reference>,
    credentials: &'c Credentials,
) -> impl Iterator<Item = &'c Credential> {
    credentials.0.iter().filter(move |one| {
        image.is_some_and(|image| match one.site {
            Some(_) => is_of_repository(&one.registry, image),
            None => is_for(plain(&one.registry), image),
        })
    })
}

/// What the site gives is for one repository, and for none below it.
fn is_of_repository(repository: &str, image: &Reference) -> bool {
    repository.split_once('/') == Some((image.registry.as_str(), image.repository.as_str()))
}

fn is_for(registry: &str, image: &Reference) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let below = format!("{}/", image.repository);
    host == image.registry && (path.is_empty() || below.starts_with(&format!("{path}/")))
}

/// The registry without what Docker's own clients write around it.
fn plain(registry: &str) -> &str {
    let name = registry.split_once("://").map_or(registry, |(_, name)| name);
    let name = name.trim_end_matches('/');
    let name = ["/v1", "/v2"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    if matches!(name, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { name }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = DIGITS.get(usize::try_from(bits >> (18 - 6 * n) & 63).unwrap_or(0));
            let known = n <= chunk.len();
            text.push(digit.filter(|_| known).map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{AuthFile, base64};
    use crate::description::podman;
    use crate::names::{ImageName, Reference};
    use nunbird_handover::{Credential, Credentials};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn image(name: &str) -> Reference {
        match ImageName::parse(name, &podman().images).expect("a name") {
            ImageName::Registry(reference) => reference,
            other => panic!("{other:?}"),
        }
    }

    fn credentials(registries: &[&str]) -> Credentials {
        let one = |registry: &&str| Credential {
            registry: (*registry).to_owned(),
            user: "u".to_owned(),
            password: "p:\n\"".to_owned(),
            site: None,
        };
        Credentials(registries.iter().map(one).collect())
    }

    #[test]
    fn the_file_is_the_accounts_alone_and_gone_with_the_pull() {
        let directory = tempfile::tempdir().expect("a directory");
        let all = credentials(&["r.example.org", "other.example.org"]);
        let file =
            AuthFile::write(directory.path(), Some(&image("r.example.org/a/b")), &all).expect("written");
        let path = file.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_to_string(&path).expect("text"),
            r#"{"auths":{"r.example.org":{"auth":"dTpwOgoi"}}}"#
        );
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn only_passwords_for_the_images_own_registry_are_used() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, registry, used) in [
            ("r.example.org/a/b", "r.example.org", true),
            ("r.example.org/a/b", "https://r.example.org/v2/", true),
            ("r.example.org/a/b", "r.example.org/a", true),
            ("r.example.org/a/b", "r.example.org/a/b", true),
            ("r.example.org/ab/c", "r.example.org/a", false),
            ("r.example.org/a/b", "r.example.org:5000", false),
            ("r.example.org.evil.example/a", "r.example.org", false),
            ("alpine", "https://index.docker.io/v1/", true),
        ] {
            let all = credentials(&[registry]);
            let file = AuthFile::write(directory.path(), Some(&image(name)), &all).expect("written");
            let text = fs::read_to_string(file.path()).expect("text");
            assert_eq!(text != r#"{"auths":{}}"#, used, "{name} {registry}: {text}");
        }
    }

    #[test]
    fn a_password_of_the_sites_is_for_its_repository_and_none_below_it() {
        for (name, used) in [
            ("r.example.org/licensed/a:1", true),
            (
                "r.example.org/licensed/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                true,
            ),
            ("r.example.org/licensed/a/b:1", false),
            ("r.example.org/licensed/ab:1", false),
            ("r.example.org/licensed:1", false),
            ("s.example.org/licensed/a:1", false),
        ] {
            let mut all = credentials(&["r.example.org/licensed/a"]);
            all.0[0].site = Some("licensed".to_owned());
            assert_eq!(super::matching(Some(&image(name)), &all).count(), usize::from(used), "{name}");
        }
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}

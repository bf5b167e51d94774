//! `[credential.NAME]`: passwords of the site's for registries, which a program of the site's gives, and the projects whose jobs pull with them.

use super::container::patterns;
use super::keys::{Form, Key, Table, form};
use super::model::Downscope;
use super::reader::{At, Section};
use super::servers::GitLabServer;
use crate::image::{ImageName, repository_name};
use crate::{Location, Pattern, Policy, suggest};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where `nunbirdctl credentials refresh` keeps what the programs have said: root has made it for the account that does.
pub const CREDENTIALS_DIR: &str = "/var/lib/nunbird/credentials";
/// The shortest that an answer is used, in seconds: the timer asks every ten minutes, and up to two later.
const SHORTEST: u64 = 15 * 60;
/// The longest that an answer is used, in seconds.
const LONGEST: u64 = 90 * 24 * 3600;

/// A password of the site's, and who pulls what with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCredential {
    /// The NAME of `[credential.NAME]`, and the stem of its file: lower-case letters, digits and `-`.
    pub name: String,
    /// Its place in the configuration.
    pub place: Location,
    /// The program that has it, which speaks docker's protocol of credential helpers.
    pub helper: PathBuf,
    /// The repositories for which it is; all in one registry, whose name is the beginning of each pattern.
    pub repositories: Vec<Pattern>,
    /// Full paths of the projects whose jobs get it.
    pub projects: Vec<Pattern>,
    /// The GitLab servers of these projects; all that the configuration has where it is empty.
    pub servers: Vec<String>,
    /// Whether pipelines get it whose sources are another project's, or may be.
    pub forks: bool,
    /// How long an answer of the program's is used, in seconds.
    pub max_age: u64,
    /// How long the program may take, in seconds.
    pub timeout: u64,
}

impl SiteCredential {
    /// The registry: host, with a port where it is not 443.
    pub fn registry(&self) -> String {
        self.repositories.first().map(|pattern| host(&pattern.to_string()).to_owned()).unwrap_or_default()
    }

    /// What the program is asked for: docker's own registry has another name there.
    pub fn server(&self) -> String {
        match self.registry() {
            registry if registry == "docker.io" => "https://index.docker.io/v1/".to_owned(),
            registry => registry,
        }
    }

    /// Whether jobs of this project of this server pull from the repository with it. A repository has its registry, and neither tag nor digest.
    pub fn is_for(&self, server: &str, project: &str, repository: &str) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        (self.servers.is_empty() || self.servers.iter().any(|name| name == server))
            && any(&self.projects, project)
            && any(&self.repositories, repository)
    }
}

impl Policy {
    /// The password of the site's with which jobs of a project pull from a repository: the first by name that is for both.
    pub fn credential_for(&self, server: &str, project: &str, repository: &str) -> Option<&SiteCredential> {
        self.credentials.values().find(|one| one.is_for(server, project, repository))
    }
}

/// What stands before the first `/`.
fn host(pattern: &str) -> &str {
    pattern.split('/').next().unwrap_or_default()
}

fn sources(patterns: &[Pattern]) -> Option<Vec<String>> {
    Some(patterns.iter().map(ToString::to_string).collect())
}

/// `[credential.NAME]`.
#[rustfmt::skip]
pub static CREDENTIAL_KEYS: Table<SiteCredential> = Table {
    path: "credential[]",
    defaults: || SiteCredential {
        name: String::new(),
        place: Location { file: PathBuf::new(), line: 0, column: 0 },
        helper: PathBuf::from("/"),
        repositories: Vec::new(),
        projects: Vec::new(),
        servers: Vec::new(),
        forks: false,
        max_age: 3600,
        timeout: 10,
    },
    keys: &[
        Key::<SiteCredential>::new("helper", form!(Path: helper),
            "the program that has the password, as docker's credential helpers: owned by root and writable only by root").or("required"),
        Key::<SiteCredential>::new("repositories",
            Form::Texts { get: |t| sources(&t.repositories), set: |t, at| t.repositories = repositories(&at) },
            "patterns of the repositories that jobs pull from with it, such as `registry.example.org/licensed/**`; all in one registry").or("required"),
        Key::<SiteCredential>::new("projects",
            Form::Texts { get: |t| sources(&t.projects), set: |t, at| t.projects = patterns(&at) },
            "patterns of the full paths of projects whose jobs get it, such as `hpc/app` or `hpc/**`").or("required"),
        Key::<SiteCredential>::new("servers",
            Form::Texts { get: |t| Some(t.servers.clone()), set: |t, at| t.servers = at.value.iter().map(|one| one.value.to_owned()).collect() },
            "names of the GitLab servers of these projects; required if there are several").or("the one that there is"),
        Key::<SiteCredential>::new("forks", form!(Flag: forks),
            "jobs get it also where their sources are those of a fork, as in its merge request, or may be: every user who can open one can read it then"),
        Key::<SiteCredential>::new("max_age", form!(Seconds: max_age, SHORTEST, LONGEST),
            "how long an answer of the program is used; at least 15 minutes, because the timer asks every ten"),
        Key::<SiteCredential>::new("timeout", form!(Seconds: timeout, 1, 300), "how long the program may take"),
    ],
};

/// All of them.
pub(super) fn all(
    root: &mut Section<'_>,
    gitlab: &[GitLabServer],
    downscope: Downscope,
) -> BTreeMap<String, SiteCredential> {
    let mut credentials = BTreeMap::new();
    for (name, mut table) in root.named("credential") {
        check_name(&name);
        let unfit = match downscope {
            Downscope::Setuid => None,
            Downscope::None => {
                Some("with `downscope = \"none\"` each job could read this password, whatever its project")
            }
            Downscope::Sudo => Some(
                "with `downscope = \"sudo\"` the account that runs gitlab-runner would have to read this password, and nothing may but root and \
                 the account that keeps it",
            ),
        };
        if let Some(what) = unfit {
            name.spot.find(what, "remove the table; users write a password into DOCKER_AUTH_CONFIG");
        }
        for (key, help) in [
            ("helper", "add `helper = \"/opt/site/bin/docker-credential-site\"`"),
            ("repositories", "add `repositories = [\"registry.example.org/licensed/**\"]`"),
            ("projects", "add `projects = [\"hpc/app\"]`"),
        ] {
            if !table.has(key) {
                name.spot.find(format!("missing key `{key}`"), help);
            }
        }
        if gitlab.len() > 1 && !table.has("servers") {
            let help = "add `servers = [\"NAME\"]`, with names of [[gitlab]]";
            let what = "there are several GitLab servers, and a project of any of them may have such a path";
            name.spot.find(what, help);
        }
        let mut one = SiteCredential {
            name: name.value.to_owned(),
            place: name.spot.place(),
            ..(CREDENTIAL_KEYS.defaults)()
        };
        CREDENTIAL_KEYS.read(&mut table, &mut one);
        let known = gitlab.iter().map(|server| server.name.as_str());
        if let Some(unknown) = one.servers.iter().find(|name| known.clone().all(|known| known != *name)) {
            let help = match suggest::nearest(unknown, known) {
                Some(near) => format!("write `{near}`"),
                None => "write the `name` of a [[gitlab]]".to_owned(),
            };
            table.find_at("servers", "unknown GitLab server", help);
        }
        table.finish();
        credentials.insert(name.value.to_owned(), one);
    }
    credentials
}

/// It is the name of a file.
fn check_name(name: &At<'_, &str>) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(plain) {
        name.spot.find("invalid name of a credential", "use 1 to 64 lower-case letters, digits and `-`");
    }
}

/// Each begins with a registry's name in the one form in which names of images have it: a pattern there could mean the server of somebody else,
/// which would then be sent the password.
fn repositories(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<Pattern> {
    if at.value.is_empty() {
        at.spot.find("no image is in this list", "write such as `registry.example.org/licensed/**`");
    }
    let first = at.value.first().map(|first| host(first.value));
    for one in &at.value {
        let registry = host(one.value);
        let sound = one.value.len() > registry.len() + 1
            && repository_name(registry).as_deref() == Some(registry)
            && ImageName::parse(&format!("{registry}/x"))
                .is_ok_and(|image| image.registry() == Some(registry));
        if !sound {
            let help = "write such as `registry.example.org/licensed/**`, in lower case and without `:443`";
            one.spot.find("this does not begin with the name of a registry and `/`", help);
        } else if first != Some(registry) {
            let help = "write a table `[credential.NAME]` for each registry";
            one.spot.find("this is in another registry than the first of the list", help);
        }
    }
    patterns(at)
}

#[cfg(test)]
mod tests {
    use super::SiteCredential;
    use crate::Policy;
    use std::path::Path;

    const HEAD: &str = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"x\"\n\
        [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n";
    const SOUND: &str = "[credential.licensed]\nhelper = \"/opt/site/bin/helper\"\n\
        repositories = [\"r.example.org/licensed/**\", \"r.example.org/tools/one\"]\nprojects = [\"hpc/*\"]\n";

    fn read(text: &str) -> Result<Policy, String> {
        Policy::parse(Path::new("c.toml"), text)
            .map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn sound() -> SiteCredential {
        read(&format!("{HEAD}{SOUND}")).expect("a policy").credentials["licensed"].clone()
    }

    #[test]
    fn a_credential_is_for_the_projects_and_the_repositories_that_it_names() {
        let one = sound();
        assert_eq!((one.registry().as_str(), one.server().as_str()), ("r.example.org", "r.example.org"));
        assert_eq!((one.max_age, one.timeout, one.forks), (3600, 10, false));
        for (project, repository, expected) in [
            ("hpc/app", "r.example.org/licensed/matlab", true),
            ("hpc/app", "r.example.org/licensed/a/b", true),
            ("hpc/app", "r.example.org/tools/one", true),
            ("hpc/app", "r.example.org/tools/one/more", false),
            ("hpc/app", "r.example.org/other", false),
            ("hpc/app", "evil.example.org/licensed/matlab", false),
            ("hpc/app", "r.example.org:5000/licensed/matlab", false),
            ("hpc/group/app", "r.example.org/licensed/matlab", false),
            ("hpc", "r.example.org/licensed/matlab", false),
            ("other/app", "r.example.org/licensed/matlab", false),
        ] {
            assert_eq!(one.is_for("main", project, repository), expected, "{project} {repository}");
        }
        let policy = read(&format!("{HEAD}{SOUND}servers = \"main\"\n")).expect("a policy");
        let found =
            |server: &str| policy.credential_for(server, "hpc/app", "r.example.org/licensed/x").is_some();
        assert!(found("main") && !found("other"));
        let hub = SOUND.replace("r.example.org", "docker.io");
        let policy = read(&format!("{HEAD}{hub}")).expect("a policy");
        assert_eq!(policy.credentials["licensed"].server(), "https://index.docker.io/v1/");
    }

    #[test]
    fn a_table_that_could_send_a_password_elsewhere_or_to_anybody_is_a_finding_at_its_place() {
        for (old, new, place, said) in [
            ("credential.licensed", "credential.Licensed", "8:13", "invalid name of a credential"),
            ("credential.licensed", "credential.\"../keys/main\"", "8:13", "invalid name of a credential"),
            ("helper =", "#", "8:13", "missing key `helper`"),
            ("repositories =", "#", "8:13", "missing key `repositories`"),
            ("projects =", "#", "8:13", "missing key `projects`"),
            ("\"/opt/site/bin/helper\"", "\"helper\"", "9:10", "absolute"),
            ("r.example.org/licensed/**", "**/licensed", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "*.example.org/x", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "R.example.org/x", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "r.example.org", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "r.example.org/", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "r.example.org**", "10:17", "begin with the name of a registry"),
            ("r.example.org/licensed/**", "hpc/**", "10:17", "begin with the name of a registry"),
            ("r.example.org/tools/one", "s.example.org/x", "10:46", "another registry"),
            ("r.example.org/tools/one", "r.example.org/[a]", "10:46", "invalid pattern"),
            ("[\"hpc/*\"]", "[\"***\"]", "11:13", "invalid pattern"),
            ("[\"hpc/*\"]", "[\"hpc/*\"]\nservers = \"mian\"", "12:11", "unknown GitLab server"),
            ("[\"hpc/*\"]", "[\"hpc/*\"]\nmax_age = \"899s\"", "12:11", "15m"),
            ("[\"hpc/*\"]", "[\"hpc/*\"]\nforks = 1", "12:9", "forks"),
            ("[\"hpc/*\"]", "[\"hpc/*\"]\nsecret = \"x\"", "12:1", "unknown key"),
        ] {
            let text = format!("{HEAD}{}", SOUND.replace(old, new));
            let wrong = read(&text).expect_err(new);
            assert!(wrong.contains(&format!("c.toml:{place}")) && wrong.contains(said), "{new}: {wrong}");
        }
        let two = HEAD.replace(
            "[[rule]]",
            "[[gitlab]]\nname = \"b\"\nurl = \"https://b.example.org\"\naudience = \"x\"\n[[rule]]",
        );
        let wrong = read(&format!("{two}{SOUND}")).expect_err("two servers");
        assert!(wrong.contains("there are several GitLab servers"), "{wrong}");
        read(&format!("{two}{SOUND}servers = [\"b\"]\n")).expect("a policy");
        for (downscope, why) in [
            ("none", "each job could read this password"),
            ("sudo", "the account that runs gitlab-runner would have to read this password"),
        ] {
            let wrong =
                read(&format!("downscope = \"{downscope}\"\n{HEAD}{SOUND}")).expect_err("no place for it");
            assert!(wrong.contains("c.toml:9:13") && wrong.contains(why), "{wrong}");
        }
    }
}

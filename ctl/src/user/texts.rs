//! The files that `setup` writes: Nunbird's configuration and the units.

use super::person::Person;
use crate::arguments::{Setup, UserHost};
use nunbird_policy::{Policy, toml_string};
use std::path::{Path, PathBuf};

/// Of caches, in bytes, as the default of `user prune`.
const QUOTA: u64 = 20 << 30;

/// The name of the first server. A login says who somebody is on one server only, so the rule names it.
pub(super) const SERVER: &str = "server";

/// What the files are made of, apart from the person.
pub(super) struct Choice {
    pub(super) programs: PathBuf,
    pub(super) runner_program: PathBuf,
    pub(super) image: Option<String>,
    pub(super) store: Option<PathBuf>,
}

impl Choice {
    pub(super) fn of(host: &UserHost) -> Choice {
        let own = std::env::current_exe().ok().and_then(|file| Some(file.parent()?.to_path_buf()));
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Choice {
            programs: host.programs.as_ref().map(whole).or(own).unwrap_or_else(|| "/opt/nunbird/bin".into()),
            runner_program: host
                .runner_program
                .as_ref()
                .map(whole)
                .or_else(|| super::person::program("gitlab-runner"))
                .unwrap_or_else(|| "/usr/bin/gitlab-runner".into()),
            image: host.image.clone(),
            store: host.store.as_ref().map(whole),
        }
    }

    /// A call that does not name the programs leaves what an earlier one has chosen.
    pub(super) fn or_earlier(
        self,
        host: &UserHost,
        runner_unit: Option<&str>,
        policy: Option<&Policy>,
    ) -> Choice {
        let earlier = policy.and_then(|policy| policy.job.launcher.parent());
        Choice {
            programs: match (&host.programs, earlier) {
                (None, Some(earlier)) => earlier.to_path_buf(),
                _ => self.programs,
            },
            runner_program: match (&host.runner_program, runner_unit.and_then(program_of)) {
                (None, Some(earlier)) => earlier,
                _ => self.runner_program,
            },
            ..self
        }
    }

    /// Paths that a unit and TOML can have as they are.
    pub(super) fn odd(&self) -> Option<&Path> {
        let all = [Some(&self.programs), Some(&self.runner_program), self.store.as_ref()];
        all.into_iter().flatten().map(PathBuf::as_path).find(|path| !plain(path))
    }
}

/// Whether a line of a unit can have it.
pub(super) fn plain(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.chars().any(char::is_control))
}

/// The server of a policy, with what is needed to reach it.
pub(super) struct Server<'s> {
    pub(super) url: &'s str,
    pub(super) audience: Option<&'s str>,
    pub(super) ca_file: Option<&'s Path>,
    pub(super) login: &'s str,
}

impl<'s> Server<'s> {
    pub(super) fn of(options: &'s Setup, person: &'s Person) -> Server<'s> {
        Server {
            url: options.url.trim_end_matches('/'),
            audience: options.audience.as_deref(),
            ca_file: options.ca_file.as_deref(),
            login: options.gitlab_user.as_deref().unwrap_or(&person.name),
        }
    }
}

/// Nunbird's configuration: one server, one user, one account.
pub(super) fn policy(person: &Person, server: &Server<'_>, choice: &Choice) -> String {
    let string = |path: &Path| toml_string(&path.to_string_lossy());
    let Server { url, audience, ca_file, login } = server;
    let account = &person.name;
    let mut text = format!(
        "# The runner of {account}, without root: `nunbirdctl user setup` has made this file.\n\
         # Jobs run as {account}, with all of the account's files. A user whom a rule admits can read and change them.\n\
         downscope = \"none\"\n\
         keys_dir = {}\n\n\
         [[gitlab]]\nname = {}\nurl = {}\naudience = {}\n",
        string(&person.keys()),
        toml_string(SERVER),
        toml_string(url),
        toml_string(audience.unwrap_or(url)),
    );
    if let Some(file) = ca_file {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        text.push_str(&format!("ca_file = {}\n", string(&file)));
    }
    text.push_str(&format!("\n[audit]\nfile = {}\n", string(&person.state().join("audit.jsonl"))));
    text.push_str(&format!("\n[job]\nlauncher = {}\n", string(&choice.programs.join("nunbird"))));
    if let Some(image) = &choice.image {
        // The account's name in the path keeps two accounts from sharing a directory by mistake.
        let store = choice.store.as_deref().unwrap_or(Path::new("/var/tmp")).join("nunbird-$UID");
        text.push_str(&format!(
            "container = \"own\"\n\n[container.own]\nengine = \"podman\"\ndefault_image = {}\nstore = {}\n# nunbird-prune.timer removes what no job \
             has used for so long.\ncache_max_age = \"30d\"\n",
            toml_string(image),
            string(&store)
        ));
    }
    text.push_str(&format!(
        "\n[[rule]]\nname = \"me\"\nwhen = {{ server = {}, user = {} }}\nrun_as = {}\n",
        toml_string(SERVER),
        toml_string(login),
        toml_string(account)
    ));
    text
}

/// The first word of `ExecStart=`, in which `$` is a letter like others, and `%` stands for itself (systemd.service(5)).
fn unit_program(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%"))
}

/// A further word: `$` stands for itself as well.
fn unit_word(path: &Path) -> String {
    unit_program(path).replace('$', "$$")
}

/// The program of a unit that [`units`] has written.
pub(super) fn program_of(unit: &str) -> Option<PathBuf> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=\""))?;
    let (mut program, mut letters) = (String::new(), line.chars());
    loop {
        match letters.next()? {
            '"' => return Some(program.into()),
            '\\' => program.push(letters.next()?),
            '%' => program.extend(letters.next().filter(|next| *next == '%')),
            letter => program.push(letter),
        }
    }
}

/// The host on which alone a unit starts.
pub(super) fn host_of(unit: &str) -> Option<&str> {
    unit.lines().find_map(|line| line.strip_prefix(CONDITION))
}

const CONDITION: &str = "ConditionHost=";

/// Units by name.
pub(super) fn units(
    person: &Person,
    choice: &Choice,
    policy: &Policy,
    options: &Setup,
    host: &str,
) -> Vec<(&'static str, String)> {
    use super::person::{KEYS, KEYS_TIMER, PRUNE, PRUNE_TIMER, RUNNER};
    let made = "# `nunbirdctl user setup` has made this file; settings of your own go into a drop-in (systemctl --user edit).\n";
    let stop = crate::runner_timeouts::Timeouts::of(policy).shutdown + 60;
    let keys = nunbird_policy::refresh_command(policy, None);
    let runner = format!(
        "{made}[Unit]\nDescription=gitlab-runner of {name}, whose jobs Nunbird runs\nDocumentation=man:nunbirdctl-user(1)\nAfter={KEYS}\n\n\
         [Service]\nExecStart={program} run --config {config} --working-directory {state}\n\
         Restart=on-failure\nRestartSec=10\n\
         # A stop signals every process, so that jobs are cancelled in order; above shutdown_timeout of gitlab-runner's configuration.\n\
         KillMode=control-group\nTimeoutStopSec={stop}\n\
         # Each job can get a group of its own below the service's.\nDelegate=yes\n\n[Install]\nWantedBy=default.target\n",
        name = person.name,
        program = unit_program(&choice.runner_program),
        config = unit_word(&person.runners()),
        state = unit_word(&person.state()),
    );
    let keys = format!(
        "{made}[Unit]\nDescription=Fetch the GitLab server's signing keys for Nunbird\n\n[Service]\nType=oneshot\nExecStart=/bin/sh -c {}\n\
         SyslogIdentifier=nunbird-keys\nTimeoutStartSec=3min\n",
        unit_word(Path::new(&format!("exec {keys}")))
    );
    let prune_service = format!(
        "{made}[Unit]\nDescription=Remove images and caches that no job of Nunbird uses\n\n[Service]\nType=oneshot\n\
         ExecStart={} user prune --quota {}M\nNice=10\n",
        unit_program(&choice.programs.join("nunbirdctl")),
        options.quota.unwrap_or(QUOTA) >> 20
    );
    let prune = options.prune.as_deref().unwrap_or("weekly");
    let timer = |what: &str, when: &str, delay: &str| {
        format!(
            "{made}[Unit]\nDescription={what}\n\n[Timer]\nOnCalendar={when}\nRandomizedDelaySec={delay}\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
        )
    };
    let all = vec![
        (RUNNER, runner),
        (KEYS, keys),
        (KEYS_TIMER, timer("Fetch the GitLab server's signing keys every hour", "hourly", "10min")),
        (PRUNE, prune_service),
        (PRUNE_TIMER, timer("Remove unused images and caches of Nunbird", prune, "1h")),
    ];
    // Other hosts with the same home directory have the same units.
    let here = format!("[Unit]\n{CONDITION}{host}\n");
    all.into_iter().map(|(name, text)| (name, text.replacen("[Unit]\n", &here, 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Choice, Server, host_of, plain, policy, program_of, units};
    use crate::arguments::{Setup, UserHost};
    use crate::user::person::Person;
    use nunbird_policy::{Policy, SourceFile};
    use std::path::Path;

    fn person() -> Person {
        Person { name: "ada".to_owned(), uid: 1000, home: "/home/ada".into() }
    }

    fn choice() -> Choice {
        Choice {
            programs: "/home/ada/bin".into(),
            runner_program: "/usr/bin/gitlab-runner".into(),
            image: None,
            store: None,
        }
    }

    fn text() -> String {
        let server =
            Server { url: "https://gitlab.example.org", audience: None, ca_file: None, login: "ada.l" };
        policy(&person(), &server, &choice())
    }

    fn host(runner_program: Option<&str>) -> UserHost {
        let runner_program = runner_program.map(Into::into);
        UserHost { programs: None, runner_program, image: None, store: None }
    }

    #[test]
    fn units_start_on_their_host_alone_and_name_their_program_as_it_is() {
        let source = SourceFile { path: "/home/ada/config.toml".into(), text: text() };
        let policy = Policy::read(&[source]).unwrap_or_else(|found| panic!("{found:?}")).policy;
        let options = Setup {
            host: host(None),
            url: String::new(),
            token_file: None,
            token_stdin: true,
            name: "own".to_owned(),
            gitlab_user: None,
            audience: None,
            ca_file: None,
            prune: None,
            quota: None,
            dry_run: false,
        };
        let odd = Path::new("/opt/a$b 100%\\\"c/gitlab-runner");
        let choice = Choice { runner_program: odd.to_path_buf(), ..choice() };
        let units = units(&person(), &choice, &policy, &options, "login1");
        for (name, text) in &units {
            assert_eq!(host_of(text), Some("login1"), "{name}");
            assert!(text.find("ConditionHost=") < text.find("[Service]").or(text.find("[Timer]")), "{text}");
        }
        let runner = &units[0].1;
        assert!(runner.contains(r#"ExecStart="/opt/a$b 100%%\\\"c/gitlab-runner" run"#), "{runner}");
        assert_eq!(program_of(runner).as_deref(), Some(odd));
        // A later call keeps it, unless it names another one.
        let earlier = |host: &UserHost| Choice::of(host).or_earlier(host, Some(runner), Some(&policy));
        let kept = earlier(&host(None));
        assert_eq!(
            (kept.runner_program.as_path(), kept.programs.as_path()),
            (odd, Path::new("/home/ada/bin"))
        );
        assert_eq!(earlier(&host(Some("/x/y"))).runner_program, Path::new("/x/y"));
        assert!(plain(odd) && !plain(Path::new("/a\nExecStart=/b")));
    }

    #[test]
    fn a_login_is_admitted_on_its_server_alone() {
        let text = text();
        assert!(
            text.contains("when = { server = \"server\", user = \"ada.l\" }\nrun_as = \"ada\"\n"),
            "{text}"
        );
        // With the second server that somebody adds, the rule is still of the first.
        let second =
            "\n[[gitlab]]\nname = \"second\"\nurl = \"https://other.example.org\"\naudience = \"x\"\n";
        for text in [text.clone(), text + second] {
            let source = SourceFile { path: "/home/ada/config.toml".into(), text };
            Policy::read(&[source]).unwrap_or_else(|found| panic!("{found:?}"));
        }
    }
}

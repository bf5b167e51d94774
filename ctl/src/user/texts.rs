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
         # Jobs run as {account}, with all of the account's files. Whoever a rule admits can read and change them.\n\
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
        // A directory that names its account is nobody else's by mistake.
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

/// A word of `ExecStart=`: `%` and `$` stand for themselves (systemd.service(5)).
fn unit_word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

/// Units by name.
pub(super) fn units(
    person: &Person,
    choice: &Choice,
    policy: &Policy,
    options: &Setup,
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
        program = unit_word(&choice.runner_program),
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
        unit_word(&choice.programs.join("nunbirdctl")),
        options.quota.unwrap_or(QUOTA) >> 20
    );
    let prune = options.prune.as_deref().unwrap_or("weekly");
    let timer = |what: &str, when: &str, delay: &str| {
        format!(
            "{made}[Unit]\nDescription={what}\n\n[Timer]\nOnCalendar={when}\nRandomizedDelaySec={delay}\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
        )
    };
    vec![
        (RUNNER, runner),
        (KEYS, keys),
        (KEYS_TIMER, timer("Fetch the GitLab server's signing keys every hour", "hourly", "10min")),
        (PRUNE, prune_service),
        (PRUNE_TIMER, timer("Remove unused images and caches of Nunbird", prune, "1h")),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Choice, Server, policy};
    use crate::user::person::Person;
    use nunbird_policy::{Policy, SourceFile};

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

//! What each code means. The compiler requires an entry for every code that is added to [`Code`].

use super::entry::{AGAIN, Class, CodeEntry, GIVE_ID, Reader, denial, system};
use nunbird_handover::Code;

/// The entry of a code.
#[allow(clippy::too_many_lines, reason = "one table")]
pub(crate) fn entry(code: Code) -> CodeEntry {
    use Reader::{Admin, Both, User};
    match code {
        Code::Account => denial(
            Both,
            "The account that the site's policy gives this job does not exist on this host or may \
             not run jobs: a system account, the runner's own, one without the uid, shell or \
             group that `[accounts]` requires.",
            "Ask the admins whether you have an account on this host under your GitLab login.",
            "`nunbirdctl audit --decision ID` names account and cause. Compare with `getent passwd NAME`, `id NAME` and `[accounts]` of the policy.",
        ),
        Code::AccountChanged => denial(
            Admin,
            "The account's uid or gid has changed since the job was admitted. Nothing more runs as it.",
            GIVE_ID,
            "The detail has both. If the change is intended, run the job again; `nunbirdctl \
             sweep` removes what is left.",
        ),
        Code::AccountExpired => denial(
            Both,
            "The account's last day in shadow(5) has passed.",
            "Ask the admins to extend your account.",
            "`chage -l NAME`.",
        ),
        Code::AdmittedTooOften => denial(
            Both,
            "The same job has been admitted on this host several times and none of them has \
             ended: one token must not occupy every slot.",
            "Start the job again as a new job.",
            "`nunbirdctl audit --job ID`; `nunbirdctl sweep` removes the records of runs that crashed.",
        ),
        Code::Audit => system(
            "The decision could not be written to every destination of `[audit]`, and the policy \
             requires it (`required = true`).",
            AGAIN,
            "Check free space, owner and mode of the audit file; the journal's socket; the syslog \
             server. `nunbirdctl doctor`.",
        ),
        Code::AuthorizedProjects => CodeEntry {
            class: Class::Either,
            reader: User,
            meaning: "The policy lets users decide which projects may run as them, and \
                      ~/.config/nunbird/authorized_projects does not admit this one; or the home \
                      directory did not respond in time (system failure).",
            user: "Add a line for the project to ~/.config/nunbird/authorized_projects, and make sure that only you can write to the file and the \
                   directories above it (`chmod go-w`).",
            admin: "The detail has the error and the line. `authorized_projects` in the policy \
                    sets what applies without a file. For a system failure check the file server \
                    of the home directories.",
        },
        Code::Bot => denial(
            Both,
            "The job was started by a bot of GitLab: by a project or group access token, or a service account.",
            "Start the job as a person, or ask the admins for a rule for this service account.",
            "A rule can admit one service account by its user id or project; `accounts.allow_bots` admits every bot.",
        ),
        Code::BuildsDir => denial(
            User,
            "`CUSTOM_CI_BUILDS_DIR` of the job is not a directory that jobs can work in.",
            "Write an absolute path of letters, digits and `-_.+@,=:`; `$HOME` and `$USER` are your account's. Or remove the variable.",
            "`user_builds_dir` in `[directories]` allows users to set one.",
        ),
        Code::Clock => system(
            "The host's clock could not be read.",
            AGAIN,
            "Check for a filter for system calls around gitlab-runner: the detail has the error.",
        ),
        Code::ConfigurationDiffers => system(
            "A later stage was called with another configuration file than the stage that admitted the job.",
            GIVE_ID,
            "Name the same `--configuration` in `config_args`, `prepare_args`, `run_args` and \
             `cleanup_args` of the runner's config.toml, or only in `config_args`.",
        ),
        Code::ConfigurationFile => system(
            "The configuration is missing, cannot be read, can be written by others than root, or \
             is not listed in /etc/nunbird/configurations.",
            GIVE_ID,
            "`nunbirdctl check --configuration FILE`; the owner must be root, without write \
             permission for group and others, up to /.",
        ),
        Code::ConfigurationInvalid => system(
            "The configuration has errors. No job runs until they are corrected.",
            GIVE_ID,
            "`nunbirdctl check` prints each with file, line and column.",
        ),
        Code::DataDir => system(
            "The account's own directory could not be created (`create` in `[directories]`).",
            GIVE_ID,
            "Check owner, mode, free space and quota of the directory above it: owned by root, \
             writable by root only.",
        ),
        Code::Decider => system(
            "nunbird-decide, which reads the configuration and judges without privilege, could \
             not be run, or did not give a usable answer.",
            AGAIN,
            "The package must be complete and of one version (`rpm -V nunbird`, `nunbirdctl \
             doctor`); the account `nunbird` must exist; no limit or filter around gitlab-runner \
             may forbid a fork. If the detail names a directory or an audit file, \
             `/etc/nunbird/floor` must allow it (`directories_in`, `audit_file`).",
        ),
        Code::Executor => system(
            "The job's executor names a scheduler that the configuration does not contain.",
            GIVE_ID,
            "Add `[scheduler.NAME]`, or name another `executor`; docs/schedulers.md.",
        ),
        Code::ExitCodeFile => system(
            "gitlab-runner's file for the script's exit status could not be written.",
            AGAIN,
            "Check free space and mode of gitlab-runner's temporary directory.",
        ),
        Code::Group => system(
            "A group that the policy uses to keep jobs out does not exist on this host. Without \
             it everybody would pass.",
            GIVE_ID,
            "`getent group NAME`: a misspelt name in the policy, or the name service no longer has it.",
        ),
        Code::Home => denial(
            Both,
            "The path of the account's home directory has characters that a shell would interpret.",
            GIVE_ID,
            "Give the account another home directory, or name a `data_dir` without `$HOME`.",
        ),
        Code::HostRestarted => system(
            "The host has restarted since the job began, so its processes are gone.",
            "Run the job again.",
            "Nothing, unless the restart was not intended.",
        ),
        Code::Images => CodeEntry {
            class: Class::Either,
            reader: Both,
            meaning: "The job's image or a service is not one that the site allows, or its name, entrypoint or pull policy cannot be used. \
             Or the job has `image:`, `services:` or `run:`, and gets none of them (`images = \"refuse\"`). \
             Or the image is pulled with the site's own password, and the sources are or may be a fork's. \
             As a system failure: the site's own password for the image's repository is missing or too old.",
            user: "Name another image in .gitlab-ci.yml, as the message says, or select another runner with `tags:`.",
            admin: "`nunbirdctl explain --job FILE` shows the image's full name and the key that decided: `allowed_images`, `denied_images`, \
             `allowed_services`, `digest_required`, `pull_policies`, `user_entrypoint`, `services_max` of `[container.NAME]`. `images = \
             \"warn\"` runs a job without what it does not get, with a warning in its log. The site's passwords: `nunbirdctl check`, and \
             `systemctl status nunbird-credentials`; `forks` of `[credential.NAME]` gives them to sources of forks.",
        },
        Code::JobAnswer => CodeEntry {
            class: Class::Either,
            reader: Both,
            meaning: "The job has no id token, and the GitLab server's answer about its job token \
                      cannot be used: the server does not respond (system failure), or the answer \
                      is not about this running job (denial).",
            user: "Give the job an id token (`id_tokens:` in .gitlab-ci.yml), or run it again.",
            admin: "`runuser -u nunbird -- nunbird-keys refresh` asks the server. Check its \
                    certificate, `proxy`, and `sources` in `[identity]`.",
        },
        Code::JobDirectory => system(
            "nunbird-auth was not started by gitlab-runner's custom executor, or its directory \
             for the job is accessible to others.",
            GIVE_ID,
            "Check config.toml of gitlab-runner: `executor = \"custom\"` and `[runners.custom]`; \
             `TMPDIR` of the service; docs/admin-guide.md.",
        ),
        Code::Launcher => system(
            "The program that runs the job as the user could not be started.",
            AGAIN,
            "/opt/nunbird/bin/nunbird must belong to root with mode 0711. `EAGAIN`: the user's \
             limit of processes is reached.",
        ),
        Code::LauncherKilled => system(
            "The program that runs the job was killed by a signal: by the kernel for lack of \
             memory, by an admin, or by the user.",
            AGAIN,
            "The detail has the signal; `journalctl -k` shows whether memory ran out.",
        ),
        Code::Limits => CodeEntry {
            class: Class::Either,
            reader: Both,
            meaning: "The job requests by a variable more than its limits allow (denial), or the \
                      limits of `[limits.NAME]` cannot be applied on this host (system failure).",
            user: "Change or remove the variable that the message names. For a system failure give the admins the decision id.",
            admin: "`nunbirdctl doctor` reports which cgroup settings are missing. RHEL needs the \
                    package's drop-in for gitlab-runner.service (`Delegate=`).",
        },
        Code::LimitsCleanup => system(
            "Processes of the job could not be ended, or its cgroup could not be removed.",
            GIVE_ID,
            "`nunbirdctl sweep --dry-run`; a process in uninterruptible sleep waits for a file server.",
        ),
        Code::Machine => system(
            "The machine of the job (`engine = \"nspawn\"`) could not be started, or could not be ended.",
            AGAIN,
            "The detail has the step. Before the first machine: systemd-nspawn is installed, `/etc/nunbird/machine-ids` has ids, nunbird-auth is \
             setuid-root or its runner is root; docs/containers.md. The job log has the last lines of the machine's console.",
        ),
        Code::Map => system(
            "A map file (`[map.NAME]`) is missing, not UTF-8, or can be written by others than root.",
            GIVE_ID,
            "The detail has the file; `nunbirdctl check` reads all of them.",
        ),
        Code::MapAmbiguous => system(
            "A map file has several accounts for this user.",
            GIVE_ID,
            "The detail has both lines: remove one.",
        ),
        Code::NoKeys => system(
            "This host has no signing key of any configured GitLab server, so it cannot verify the job's token.",
            GIVE_ID,
            "`nunbirdctl keys` prints the command that fetches them; check `systemctl status \
             nunbird-keys.timer`, the server's certificate, the proxy.",
        ),
        Code::NoRecord => denial(
            Both,
            "This host has no record that this job was admitted, so none of its stages may run.",
            "Look further up in the job log: the job was refused when it was prepared.",
            "If it was admitted: the directory of records was emptied, or two runners share a temporary directory.",
        ),
        Code::NoRule => denial(
            Both,
            "No rule of the site's policy admits this job: admission may depend on project, ref, \
             group, role or how the pipeline was started.",
            "Ask the admins what this host is for; give them the decision id.",
            "`nunbirdctl explain` with the job's claims shows each rule and the first condition that does not hold.",
        ),
        Code::NoToken => denial(
            User,
            "The job has no variable with an id token under any name that this site accepts.",
            "Add `id_tokens:` to the job or to `default:` in .gitlab-ci.yml; the job log has the lines to paste.",
            "The names are `token_variables` in `[identity]` (Jacamar: `jwt_env_variable`).",
        ),
        Code::Nologin => system(
            "The host takes no logins at the moment (/etc/nologin or /run/nologin exists).",
            "Run the job again when your site reports that the host is available again.",
            "nologin(5); `nologin` in `[accounts]`.",
        ),
        Code::NotTheKeeper => denial(
            Admin,
            "An account other than root made a call that only `nunbirdctl sweep` makes, to clean up directories.",
            GIVE_ID,
            "Run `nunbirdctl sweep` as root, with the runner account's name in `--runner-user`.",
        ),
        Code::Pam => system(
            "The session of `[pam]` could not be opened: a module or PAM itself failed.",
            GIVE_ID,
            "Check /etc/pam.d/nunbird and the journal of the modules; `nunbirdctl doctor` reads the file.",
        ),
        Code::PamAccount => denial(
            Both,
            "The site's PAM modules refuse the account at present.",
            "The lines above in the job log have the site's reason, if there is one; ask the admins.",
            "Check the `account` lines of /etc/pam.d/nunbird; pam_unix(8) also refuses a password \
             that has to be changed.",
        ),
        Code::PamSession => denial(
            Both,
            "The job's PAM session has ended before the job.",
            "Run the job again; if it fails again, give the admins the decision id.",
            "The process that holds the session was ended: by systemd-logind \
             (`KillUserProcesses=`), lack of memory, or an admin.",
        ),
        Code::PamSessionLost => system(
            "The process that held the job's PAM session ended without closing it.",
            GIVE_ID,
            "The detail has what is known. A root process was killed: check the runner's account; \
             close what the modules left (`loginctl`).",
        ),
        Code::PamSessionOpen => system(
            "The job's PAM session could not be closed.",
            GIVE_ID,
            "The detail has the socket of the process that holds the session. `nunbirdctl sweep` \
             closes sessions of ended jobs.",
        ),
        Code::PamTimeout => system(
            "The PAM modules did not finish in time.",
            AGAIN,
            "Check `timeout` in `[pam]`; a module waits for a server.",
        ),
        Code::PamUser => denial(
            Admin,
            "A PAM module changed the user's name. The session would belong to another account.",
            GIVE_ID,
            "Remove the module that maps names from /etc/pam.d/nunbird.",
        ),
        Code::PinMismatch => denial(
            Both,
            "The local account is bound to another GitLab user than the one who started the job. \
             A user name on GitLab can be changed, deleted and given to another user; the user's \
             id cannot.",
            "If your GitLab account was created again, ask the admins to remove the old binding.",
            "The detail has both user ids. When you are sure that both are the same person: `nunbirdctl people forget ACCOUNT`.",
        ),
        Code::PinStore => system(
            "The store of known people cannot be read or written, so no user can be recognized.",
            GIVE_ID,
            "Check owner, mode and free space of the store's directory; `nunbirdctl people list`.",
        ),
        Code::PinUnknown => denial(
            Admin,
            "The policy admits known people only, and this account is not bound to a GitLab user yet.",
            "Ask the admins to add you; give them the decision id.",
            "`nunbirdctl people import` with the account and the user's id, which the audit event has.",
        ),
        Code::Privilege => system(
            "nunbird-auth does not have the privilege that the configuration needs, or was \
             started in a state that it does not accept.",
            GIVE_ID,
            "Check mode and capabilities of /opt/nunbird/bin/nunbird-auth (`getcap`), `nosuid` of \
             its file system, `NoNewPrivileges=` of the runner's service.",
        ),
        Code::Process => system(
            "The process could not be set up.",
            AGAIN,
            "Check for a filter for system calls or limits around gitlab-runner.",
        ),
        Code::Random => system(
            "The host supplied no random numbers.",
            AGAIN,
            "Check for a filter for system calls around gitlab-runner.",
        ),
        Code::RecordExpired => denial(
            User,
            "The time in which the job may run is over.",
            "Raise the job's `timeout:` in .gitlab-ci.yml or in the project's settings: the id token lives as long as the job may.",
            "Nothing, unless the host's clock is wrong.",
        ),
        Code::RecordStore => system(
            "The directory of job records cannot be used.",
            GIVE_ID,
            "/var/lib/nunbird/jobs must belong to root with mode 0700; check free space, inodes and the disk.",
        ),
        Code::RecordFormat => system(
            "The record of the job cannot be read: Nunbird was upgraded or downgraded while the job ran, and the two versions have different records, or the file is damaged.",
            AGAIN,
            "Let running jobs end first: see \"Jobs that run during the upgrade\" in docs/upgrading.md, also for what is left of this job.",
        ),
        Code::ResponseFile => system(
            "gitlab-runner's file about the job could not be read.",
            GIVE_ID,
            "gitlab-runner 14.1 or later writes it; check that the custom executor calls the \
             program and that the temporary directory belongs to the runner.",
        ),
        Code::ResponseMalformed => system(
            "gitlab-runner's file about the job is not the JSON that gitlab-runner writes.",
            GIVE_ID,
            "Check for a full file system, or another program than gitlab-runner as the caller.",
        ),
        Code::Rule => denial(
            Both,
            "A rule of the site's policy denies this job; the message has the site's text.",
            "Do as the message advises, or ask the admins.",
            "The detail names the rule with file and line.",
        ),
        Code::RunnerGone => system(
            "The gitlab-runner that started the job was killed before this stage began: GitLab \
             has given the job up, and may start it again.",
            AGAIN,
            "Find out why gitlab-runner ended: its journal, the kernel's out-of-memory killer. \
             `nunbirdctl sweep` cleans up after its jobs.",
        ),
        Code::RunnerIds => denial(
            Admin,
            "The token belongs to a job of a runner that is not in the server's `runner_ids`. The \
             job is correct; the list may be outdated, or another runner sends its jobs to this \
             host.",
            GIVE_ID,
            "The detail has the runner's id and the configured ones. A runner that was registered \
             again has a new id: change `runner_ids` of `[[gitlab]]`.",
        ),
        Code::Script => system(
            "The stage's script could not be read from gitlab-runner's directory, or is too large.",
            AGAIN,
            "Check free space and mode of gitlab-runner's temporary directory.",
        ),
        Code::Shepherd => system(
            "The job's process cannot be monitored.",
            AGAIN,
            "The detail has the error: a limit of processes or open files of the runner's account.",
        ),
        Code::Stdout => system(
            "gitlab-runner did not read the answer to `config`.",
            AGAIN,
            "gitlab-runner was stopped, or another program called.",
        ),
        Code::StillLive => denial(
            Admin,
            "`nunbirdctl sweep` asked to clean up a job that may still run.",
            GIVE_ID,
            "Nothing: the next sweep after the end of the job's time, or of its runner, removes \
             it. `nunbirdctl jobs end` ends a running job.",
        ),
        Code::Sudo => system(
            "With `downscope = \"sudo\"`: sudo did not start the job's launcher.",
            GIVE_ID,
            "Check the line for the runner's account in sudoers(5): docs/sudo.md. `nunbirdctl doctor` asks sudo.",
        ),
        Code::TokenAudience => denial(
            User,
            "The id token has another `aud` than this site accepts.",
            "Set `aud:` of the id token in .gitlab-ci.yml to the value in the job log.",
            "The values are `audience` of `[[gitlab]]` (Jacamar: the URL of the server).",
        ),
        Code::TokenClaims => denial(
            Both,
            "The id token is signed by the server, but does not contain the claims that GitLab \
             writes for a job, or a name in it has control characters.",
            AGAIN,
            "An old GitLab, or a changed format: `nunbirdctl explain --token FILE` names the claim.",
        ),
        Code::TokenEmpty => denial(
            User,
            "The variable of the id token is there, but empty.",
            "Use `id_tokens:` in .gitlab-ci.yml, and define no variable of the same name. A job \
             outside of a pipeline has no token.",
            "As `no-token`.",
        ),
        Code::TokenExpired => denial(
            Both,
            "The id token's time is over: it was issued for another run, or a clock is wrong.",
            "Run the job again; if it fails again, inform the admins.",
            "Compare this host's clock with the server's (`timedatectl`); `clock_skew` in `[identity]`.",
        ),
        Code::TokenHeader => denial(
            Both,
            "The id token's header has an algorithm or fields that GitLab never sends.",
            "Use the token that `id_tokens:` gives, unchanged.",
            "The token was forged, or a proxy changed it. Check the user and the project.",
        ),
        Code::TokenIssuer => denial(
            Both,
            "The key of one server signed the token, but it names another issuer.",
            "Use the token that `id_tokens:` gives, unchanged.",
            "`issuer` of `[[gitlab]]` must be the server's `external_url`, as in `iss` of a token.",
        ),
        Code::TokenMalformed => denial(
            User,
            "The variable contains something other than a signed token.",
            "Use `id_tokens:` in .gitlab-ci.yml, and define no variable of the same name.",
            "As `no-token`.",
        ),
        Code::TokenNotYetValid => denial(
            Admin,
            "The id token's time has not begun: a clock is wrong.",
            AGAIN,
            "Compare this host's clock with the server's (`timedatectl`); `clock_skew` in `[identity]`.",
        ),
        Code::TokenOfAnotherJob => denial(
            User,
            "The id token is genuine, but belongs to another job, project, pipeline or user than the one that runs.",
            "Use the job's own token: do not copy tokens between jobs or keep one in a CI/CD variable.",
            "The message names the claim that differs. With a copied token one user can act as \
             another: check both jobs.",
        ),
        Code::TokenOfAnotherServer => denial(
            Both,
            "The id token belongs to another GitLab server than the job.",
            "Use the token that `id_tokens:` gives to this job.",
            "`issuer` and `url` of each `[[gitlab]]` must belong to the same server. Otherwise \
             check the job: a token of one server was used on another.",
        ),
        Code::TokenUnknownKey => CodeEntry {
            class: Class::Either,
            reader: Both,
            meaning: "The token's signature matches no key that this host has of the configured \
                      servers. A denial if the servers have just been asked for their keys; a \
                      system failure, after which gitlab-runner tries again, if one did not \
                      respond or was asked less than five seconds ago: it may have changed its \
                      keys.",
            user: "Run the job again in a moment; if it fails again, inform the admins.",
            admin: "`nunbirdctl keys` prints the known keys and the command that fetches them; \
                    check that the policy contains the job's server.",
        },
        Code::UserCheck => system(
            "The GitLab server was asked about the user who started the job, and its answer \
             cannot be used or did not come.",
            AGAIN,
            "The detail has the server and the error: check its certificate, the proxy, the \
             network. Without the answer no job runs.",
        ),
        Code::UserDatabase => system(
            "The host's user database (SSSD, nslcd, NIS) does not respond. This is not treated as \
             \"no such account\".",
            AGAIN,
            "`getent passwd NAME`; check the service that the detail names.",
        ),
        Code::UserInactive => denial(
            Both,
            "The GitLab user who started the job is blocked, banned or deactivated.",
            "Sign in to GitLab, or ask its admins.",
            "The detail has the state that the server reports.",
        ),
        Code::UserKind => denial(
            Admin,
            "The GitLab server does not report whether a person or a bot started the job.",
            GIVE_ID,
            "The server is too old to report it: docs/policy-reference.md has the key to do \
             without, and `nunbirdctl check` reports the risk.",
        ),
        Code::UserMismatch => denial(
            Both,
            "The GitLab server reports another user for this job than the token.",
            "Run the job anew, as yourself.",
            "The detail has both user ids. A token of another job, or a job that another user \
             started again: check both users.",
        ),
        Code::Validation => denial(
            Both,
            "The site's own program refuses the job.",
            "Do as the message advises, or ask the admins.",
            "The detail has the program's exit status and what it printed: docs/validation.md.",
        ),
        Code::ValidationProgram => system(
            "The site's validation program could not be started, took too long, or printed an invalid answer.",
            GIVE_ID,
            "The detail has the cause: owner and mode of the program, its output. \
             docs/validation.md has its interface.",
        ),
        Code::Variable => denial(
            User,
            "A variable of the job that is passed to the batch scheduler, or to its container, is not UTF-8, too long, or of another form.",
            "Shorten or remove the variable for the scheduler: its arguments, `SCHEDULER_JOB_PREFIX`, `SCHEDULER_SIGNAL` or `COPY_SCHEDULER_LOGS`, at most 16 KiB. \
             `DOCKER_AUTH_CONFIG` is what docker writes into config.json, at most 64 KiB; variables of services have 64 KiB together.",
            "The detail has the variable's name, and never its value.",
        ),
        Code::Worker => system(
            "The process that checks tokens without privilege did not start, was ended, or gave no answer.",
            AGAIN,
            "Check for a filter for system calls or a limit of processes around gitlab-runner that forbids a fork.",
        ),
    }
}

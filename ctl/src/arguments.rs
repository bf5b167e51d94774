//! The command line.

mod history;
mod machines;
mod server;
mod user;

use crate::output::Format;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use nunbird_policy::{DEFAULT_AUDIT_FILE, DEFAULT_CONFIGURATION};
use std::path::PathBuf;

pub(crate) use history::{Audit, Metrics, Report};
pub(crate) use machines::{Machines, MachinesAction};
pub(crate) use server::ServerProxy;
pub(crate) use user::{Setup, User, UserAction, UserHost};

/// Checks, explains and tests a site's Nunbird configuration, and reads its audit file.
#[derive(Parser)]
#[command(
    version,
    after_help = "exit status: 0 success, 1 failure, 2 usage, 3 configuration invalid, 4 denied \
                  or changed, 5 tests failed, 6 undecided, 7 the job would fail on this host"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Output for humans or for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// The purpose of a command, examples, and then its options: help should show how to use it first.
const EXAMPLES_FIRST: &str = "{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}";

/// The command line, for parsing or for generating its documentation.
pub(crate) fn command_line() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        command.help_template(EXAMPLES_FIRST).mut_subcommands(|below| below.help_template(EXAMPLES_FIRST))
    })
}

/// Reads this process's command line; help, version and errors end the process.
pub(crate) fn read() -> Cli {
    Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit())
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Read a configuration, run its tests and inspect this host; print every finding.
    #[command(after_help = "examples:\n  nunbirdctl check\n  nunbirdctl check new.toml --no-host --strict")]
    Check(Check),
    /// Do everything that check does, and inspect gitlab-runner's configuration, systemd, disk
    /// space and the kernel.
    #[command(
        after_help = "examples:\n  nunbirdctl doctor\n  nunbirdctl doctor --runner-config /srv/runner/config.toml --format json"
    )]
    Doctor(Doctor),
    /// Print the part of gitlab-runner's config.toml for a configuration, or check an existing file.
    #[command(after_help = "examples:\n  nunbirdctl runner-config\n  nunbirdctl runner-config \
                      --configuration /etc/nunbird/config.toml > hpc.toml\n  nunbirdctl \
                      runner-config --check /etc/gitlab-runner/config.toml\n\nexit status with \
                      --check: 0 no errors, 1 the file cannot be read, 3 errors, or remarks with \
                      --strict")]
    RunnerConfig(RunnerConfig),
    /// Show how a job would be decided: every rule, every condition, the actual value; or what the
    /// code of a refusal means.
    #[command(after_help = "examples:\n  nunbirdctl explain --claims ada.json\n  nunbirdctl explain \
                      token-audience\n  nunbirdctl explain --token token.jwt --runner-user \
                      gitlab-runner\n  nunbirdctl explain --job response.json --format json\n  \
                      nunbirdctl explain --decision 7f3a9c\n\nexit status: 0 admitted, 4 denied, \
                      6 undecided (a check could not be made), 7 failed (a fault of this \
                      host)\n\nada.json holds a token's payload, or as little as\n  \
                      {\"user_login\": \"ada\", \"project_path\": \"hpc/app\", \"ref\": \"main\", \
                      \"ref_protected\": true, \"pipeline_source\": \"push\"}")]
    Explain(Explain),
    /// Run the policy's own tests, `[[test]]` in the configuration and in more files.
    #[command(after_help = "example:\n  nunbirdctl test --configuration new.toml more-tests.toml")]
    Test(Test),
    /// Print the effective configuration, with the file and line of each value.
    #[command(after_help = "examples:\n  nunbirdctl show\n  nunbirdctl show --key accounts.min_uid")]
    Show(Show),
    /// Decide past jobs again with another configuration, and print which decisions change.
    #[command(
        after_help = "example:\n  nunbirdctl diff /etc/nunbird/config.toml new.toml --log /var/log/nunbird/audit.jsonl"
    )]
    Diff(Diff),
    /// Search the audit file, and print all events of one job.
    #[command(
        after_help = "examples:\n  nunbirdctl audit --denied --since 1h\n  nunbirdctl audit --jobs --since yesterday --account ada\n  nunbirdctl audit --counts --since 7d\n  nunbirdctl audit --follow --code no-rule\n  nunbirdctl audit --job 4711\n  nunbirdctl audit --decision 7f3a9c"
    )]
    Audit(Audit),
    /// Count jobs, refusals, waits, CPU time and memory of a span of time, as text or as a page with
    /// plots.
    #[command(
        after_help = "examples:\n  nunbirdctl report\n  nunbirdctl report --since 7d --format json\n  nunbirdctl report --since 2026-11-01 --until 2026-12-01 --html november.html"
    )]
    Report(Report),
    /// Write counters of jobs, refusals and durations for Prometheus, as node_exporter's textfile
    /// collector reads them.
    #[command(
        after_help = "example:\n  nunbirdctl metrics --output /var/lib/nunbird/metrics/nunbird.prom\n\nnunbird-metrics.timer runs it every minute, once it is enabled."
    )]
    Metrics(Metrics),
    /// Show and change which GitLab user each account is bound to on this host.
    #[command(after_help = "examples:\n  nunbirdctl people list\n  nunbirdctl people forget ada \
                      --server main\n  nunbirdctl people export > people; nunbirdctl people \
                      import people   on another host\n\nAs root; without root, the list of the \
                      account that runs gitlab-runner without privilege.")]
    People(People),
    /// List the jobs on this host with their users, start times and hosts; end one of them and
    /// clean up after it.
    #[command(
        after_help = "examples:\n  nunbirdctl jobs\n  nunbirdctl jobs --format json\n  nunbirdctl jobs end 4711\n\n\
        As root; without root, those of the account that runs gitlab-runner without privilege."
    )]
    Jobs(Jobs),
    /// List the container images of your own jobs on this host, pull one, and remove those that no
    /// job uses.
    #[command(
        after_help = "examples:\n  nunbirdctl images list\n  nunbirdctl images pull alpine:3 --container small\n  nunbirdctl images prune --dry-run\n  \
        nunbirdctl images list --store /scratch/ada/images --format json\n\nAs the account that the jobs run as."
    )]
    Images(Images),
    /// Ask the site's programs for its passwords of registries, and keep them for jobs.
    #[command(
        after_help = "example:\n  runuser -u nunbird-credentials -- /opt/nunbird/bin/nunbirdctl credentials refresh\n\n\
        As the account that owns /var/lib/nunbird/credentials. nunbird-credentials.timer runs it every ten minutes, once it is enabled."
    )]
    Credentials(Credentials),
    /// Build, update, list, verify, enter and remove the trees that machines boot from, as root.
    #[command(
        after_help = "examples:\n  nunbirdctl machines build debian12\n  nunbirdctl machines list\n  nunbirdctl machines update --all\n\nAs root. docs/machines.md has the definitions."
    )]
    Machines(Machines),
    /// Set up a runner of your own without root: check this host, add runners, start their units; remove all of it.
    #[command(
        after_help = "examples:\n  nunbirdctl user check\n  nunbirdctl user setup --url https://gitlab.example.org --token-file token\n  \
                      nunbirdctl user status\n\nAs the account that the jobs run as. docs/own-runner.md has the two steps."
    )]
    User(User),
    /// List the signing keys of the servers, as nunbird-auth would use them.
    #[command(after_help = "examples:\n  nunbirdctl keys\n  nunbirdctl keys --configuration new.toml")]
    Keys(Keys),
    /// Switch the runners that call Jacamar CI to Nunbird, with their configurations; or back.
    #[command(
        after_help = "examples:\n  nunbirdctl adopt --dry-run\n  nunbirdctl adopt --token token.jwt\n  \
                      nunbirdctl adopt --proxy http://proxy.example.org:3128\n  nunbirdctl adopt --undo\n\nIn gitlab-runner's config.toml the paths of Jacamar CI's programs \
                      are replaced, and the configurations that its runners name are added to \
                      /etc/nunbird/configurations, with the server of the runner if the file has none. Everything is \
                      checked first as by `doctor`; with an error nothing changes and the exit status is 3."
    )]
    Adopt(Adopt),
    /// Print a Jacamar CI configuration as a Nunbird configuration.
    #[command(after_help = "examples:\n  nunbirdctl migrate /etc/gitlab-runner/jacamar.toml\n  \
                      nunbirdctl migrate /etc/gitlab-runner/jacamar.toml --gitlab-server \
                      https://gitlab.example.org --output new.toml\n\nExit status 3: something \
                      has no counterpart, and check refuses the printed text or the text denies \
                      every job.")]
    Migrate(Migrate),
    /// Remove what a crashed gitlab-runner left behind: ended jobs, its old temporary files, and
    /// old build directories.
    #[command(
        after_help = "examples:\n  nunbirdctl sweep --dry-run\n  nunbirdctl sweep --runner-user ci --tmpdir /srv/ci/tmp --older-than 7d\n\n\
        As root, or as the account that runs gitlab-runner. nunbird-sweep.timer runs it every hour."
    )]
    Sweep(Sweep),
    /// Print the JSON schema of the configuration, for editors.
    #[command(after_help = "example:\n  nunbirdctl schema > nunbird.schema.json")]
    Schema,
    /// Print completions for a shell.
    #[command(
        after_help = "example:\n  nunbirdctl completions bash > /usr/share/bash-completion/completions/nunbirdctl"
    )]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print docs/codes.md.
    #[command(hide = true)]
    CodesPage,
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which exists.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

/// The account that gitlab-runner's packages create.
pub(crate) const DEFAULT_RUNNER: &str = "gitlab-runner";

#[derive(Args)]
pub(crate) struct Configuration {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
    pub(crate) configuration: PathBuf,
}

#[derive(Args)]
pub(crate) struct RunnerUser {
    /// The account that runs gitlab-runner, as which no job runs.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_RUNNER)]
    pub(crate) runner_user: String,
}

#[derive(Args)]
pub(crate) struct Check {
    /// The configuration, as with --configuration; `-` is standard input.
    #[arg(value_name = "FILE", conflicts_with = "configuration")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    /// Read only the files; do not inspect programs, accounts, directories and keys.
    #[arg(long)]
    pub(crate) no_host: bool,
    /// Treat remarks as errors.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    /// gitlab-runner's own configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/gitlab-runner/config.toml")]
    pub(crate) runner_config: PathBuf,
    /// gitlab-runner's unit; by default the service that its processes run in.
    #[arg(long, value_name = "NAME")]
    pub(crate) unit: Option<String>,
    /// Treat remarks as errors.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args)]
pub(crate) struct RunnerConfig {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// Check this config.toml of gitlab-runner, as doctor does; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
    /// With --check: treat remarks as errors.
    #[arg(long, requires = "check")]
    pub(crate) strict: bool,
}

#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    #[command(flatten)]
    pub(crate) job: WhichJob,
    /// The account that the site's validation program would return.
    #[arg(long, value_name = "NAME", conflicts_with = "run_validation")]
    pub(crate) validated: Option<String>,
    /// As root: run the site's validation program.
    #[arg(long)]
    pub(crate) run_validation: bool,
    /// The audit file, for --decision; by default the one in the configuration.
    #[arg(long, value_name = "FILE", requires = "decision")]
    pub(crate) log: Option<PathBuf>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichJob {
    /// JSON object with facts of the job: a token's payload, or the names of `[[test]]`.
    #[arg(long, value_name = "FILE")]
    pub(crate) claims: Option<PathBuf>,
    /// An id token. It is not printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// A job response of gitlab-runner (`JOB_RESPONSE_FILE`) with an id token in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) job: Option<PathBuf>,
    /// The id of a past decision, or its first digits: the decision, and the decision by today's
    /// policy.
    #[arg(long, value_name = "ID")]
    pub(crate) decision: Option<String>,
    /// The code of a refusal, the word in brackets: what it means and what to do.
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// List the codes of all refusals.
    #[arg(long)]
    pub(crate) codes: bool,
}

#[derive(Args)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    /// Files with more `[[test]]` tables.
    #[arg(value_name = "TESTS")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// One key, such as `accounts.min_uid`.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Args)]
pub(crate) struct Diff {
    /// The configuration that made the decisions.
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The configuration to decide with.
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// The audit file with the past jobs.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_AUDIT_FILE)]
    pub(crate) log: PathBuf,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
}

#[derive(Args)]
pub(crate) struct Images {
    #[command(subcommand)]
    pub(crate) action: ImagesAction,
}

/// What to do with images.
#[derive(Subcommand)]
pub(crate) enum ImagesAction {
    /// Print the images: name, engine, digest, size, last use, and the jobs that use them.
    #[command(after_help = "example:\n  nunbirdctl images list --container small")]
    List {
        #[command(flatten)]
        place: ImagePlace,
    },
    /// Pull an image as a job's prepare stage does, by the site's rules for images.
    #[command(
        after_help = "example:\n  nunbirdctl images pull registry.example.org/hpc/base:2026 --container small\n\nPasswords \
                      come from the variable DOCKER_AUTH_CONFIG, in the form of docker's config.json."
    )]
    Pull {
        /// The name of the image, as `image:` in .gitlab-ci.yml.
        #[arg(value_name = "REFERENCE")]
        reference: String,
        #[command(flatten)]
        place: ImagePlace,
    },
    /// Remove images that are beyond the bounds of the configuration. What a job uses stays.
    #[command(
        after_help = "examples:\n  nunbirdctl images prune --dry-run\n  nunbirdctl images prune --all --container small"
    )]
    Prune {
        /// All images that no job uses.
        #[arg(long)]
        all: bool,
        /// Print what would be removed, without removing it.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: ImagePlace,
    },
}

#[derive(Args)]
pub(crate) struct Credentials {
    #[command(subcommand)]
    pub(crate) action: CredentialsAction,
}

/// What to do with the site's passwords.
#[derive(Subcommand)]
pub(crate) enum CredentialsAction {
    /// Ask the program of each `[credential.NAME]`. What was kept of one that fails stays; what has no table in any configuration goes.
    #[command(
        after_help = "example:\n  runuser -u nunbird-credentials -- /opt/nunbird/bin/nunbirdctl credentials refresh\n\n\
        exit status: 0 all passwords are stored, 1 some are not, 3 the configuration is invalid"
    )]
    Refresh {
        /// The tables of one configuration alone; nothing is removed. Otherwise those of /etc/nunbird/config.toml and of all in
        /// /etc/nunbird/configurations.
        #[arg(long, value_name = "FILE")]
        configuration: Option<PathBuf>,
    },
}

/// Which images.
#[derive(Args)]
pub(crate) struct ImagePlace {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// Those of one `[container.NAME]`.
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Those in this directory: a store or cache, in place of the configuration's.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) store: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct People {
    #[command(subcommand)]
    pub(crate) action: PeopleAction,
}

/// What to do with the list of people.
#[derive(Subcommand)]
pub(crate) enum PeopleAction {
    /// Print every account, with its server and the id of the GitLab user that it is bound to.
    #[command(after_help = "example:\n  nunbirdctl people list --format json")]
    List,
    /// Print which user an account is bound to, on every server.
    #[command(after_help = "example:\n  nunbirdctl people show ada")]
    Show {
        /// The local account.
        account: String,
    },
    /// Remove the binding of an account: its next job binds it to that job's user.
    #[command(after_help = "example:\n  nunbirdctl people forget ada --server main")]
    Forget {
        /// The local account.
        account: String,
        /// Only on this server.
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// Import lines `account server user_id`: the whole file or nothing.
    #[command(
        after_help = "example:\n  ssh login1 nunbirdctl people export > people; nunbirdctl people import people"
    )]
    Import {
        /// The file.
        file: PathBuf,
        /// Overwrite the bindings of accounts that are bound to another user here.
        #[arg(long)]
        replace: bool,
    },
    /// Print all bindings as a file that import and `accounts.people_file` read.
    #[command(after_help = "example:\n  nunbirdctl people export > people")]
    Export,
}

#[derive(Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) action: Option<JobsAction>,
}

/// What to do with the jobs.
#[derive(Subcommand)]
pub(crate) enum JobsAction {
    /// Print every job that this host has a record of.
    #[command(after_help = "example:\n  nunbirdctl jobs list --format json")]
    List,
    /// End a job's processes and its jobs in the scheduler, and clean up after it as its user.
    #[command(
        after_help = "examples:\n  nunbirdctl jobs end 4711 --dry-run\n  nunbirdctl jobs end 4711 --decision 7f3a9c"
    )]
    End {
        /// GitLab's id of the job.
        job: u64,
        /// The decision id, or its beginning, if jobs of several servers have this id.
        #[arg(long, value_name = "ID")]
        decision: Option<String>,
        /// Print which job would be ended, without ending it.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
}

#[derive(Args)]
pub(crate) struct Adopt {
    /// gitlab-runner's own configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/gitlab-runner/config.toml")]
    pub(crate) runner_config: PathBuf,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    /// gitlab-runner's unit; by default the service that its processes run in.
    #[arg(long, value_name = "NAME")]
    pub(crate) unit: Option<String>,
    /// The path of nunbird-auth, if it is not the package's.
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// The URL of the GitLab server for files that name none, in place of the runner's. Needed if others than root can change
    /// gitlab-runner's configuration.
    #[arg(long, value_name = "URL")]
    pub(crate) gitlab_server: Option<String>,
    #[command(flatten)]
    pub(crate) proxy: ServerProxy,
    /// A configuration that runners may name. Needed for each if others than root can change gitlab-runner's configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) configuration: Vec<PathBuf>,
    /// An id token of a job: nothing changes unless its job would be admitted. It is not printed.
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    pub(crate) token: Option<PathBuf>,
    /// Make the change despite errors with this code.
    #[arg(long, value_name = "CODE")]
    pub(crate) allow: Vec<String>,
    /// Print what would change, without changing it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take back the last change.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Where the files are kept as they were.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/nunbird/adopted")]
    pub(crate) state: PathBuf,
}

#[derive(Args)]
pub(crate) struct Migrate {
    /// Jacamar's configuration.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The URL of the GitLab server, if the file has no `gitlab_server` or another one.
    #[arg(long, value_name = "URL")]
    pub(crate) gitlab_server: Option<String>,
    /// The audience of the jobs' id tokens, if the file has no `jwt_required_aud` or another one.
    #[arg(long, value_name = "URL")]
    pub(crate) audience: Option<String>,
    #[command(flatten)]
    pub(crate) proxy: ServerProxy,
    /// Write the text to this file in place of printing it, atomically and only if all of it could
    /// be migrated.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Sweep {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) runner: RunnerUser,
    /// Print what would be removed, without removing it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where gitlab-runner keeps temporary files (its TMPDIR).
    #[arg(long, value_name = "DIRECTORY", default_value = "/tmp")]
    pub(crate) tmpdir: Vec<PathBuf>,
    /// An account whose old build directories are removed, in addition to those whose jobs are in
    /// the audit file.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Vec<String>,
    /// How old a temporary file must be: a duration such as 36h, 2d or 1w.
    #[arg(long, value_name = "TIME", default_value = "2d", value_parser = age)]
    pub(crate) older_than: u64,
}

/// An hour at least: a younger file may be of a job that is about to begin.
fn age(text: &str) -> Result<u64, String> {
    let wrong = || "write a duration of an hour or more, such as `36h`, `2d` or `1w`".to_owned();
    nunbird_policy::read_duration(text).filter(|seconds| *seconds >= 3600).ok_or_else(wrong)
}

//! `nunbirdctl adopt`: the runners that call Jacamar CI call Nunbird instead, with the same configurations.
//!
//! Two files change: gitlab-runner's `config.toml`, in which the paths of the programs are replaced, and the list of
//! configurations, which gets those that the runners name, with the server that the runner is registered with where the
//! configuration names none. The file decides this only where root alone can write it; elsewhere root names
//! files and server in the command. Everything is checked before anything is written, and `--undo` takes it back.

mod kept;
mod place;
mod runners;

use crate::arguments::Adopt;
use crate::finding::Finding;
use crate::output::{CtlError, Format, INVALID, OK, print, print_json};
use crate::{
    check, explain, files, host, host_facts, machine, runner_config, runner_processes, runner_unit, systemd,
};
use kept::Changed;
use nunbird_handover::Untrusted;
use nunbird_policy::{
    CONFIGURATIONS, DEFAULT_CONFIGURATION, Dialect, Downscope, GitLabServer, NO_GITLAB_SERVER, Policy,
    Reading, SourceFile, check_url, listed,
};
use place::Place;
use runners::{Adopted, Runner};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the package has the program, for a configuration that cannot be read.
const DEFAULT_AUTH: &str = "/opt/nunbird/bin/nunbird-auth";

pub(crate) fn run(options: &Adopt, format: Format) -> Result<u8, CtlError> {
    if options.undo { undo(options, format) } else { adopt(options, format) }
}

fn adopt(options: &Adopt, format: Format) -> Result<u8, CtlError> {
    let config = &options.runner_config;
    let place = Place::open(config)?;
    let text = match place.read()? {
        Some(bytes) => {
            String::from_utf8(bytes).map_err(|_| CtlError::new(format!("{}: not UTF-8", config.display())))?
        }
        None => {
            return Err(CtlError::new(format!(
                "{}: no such file; --runner-config names another",
                config.display()
            )));
        }
    };
    let auth = options.program.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_AUTH));
    let adopted = runners::adopt(config, &text, &auth)?;
    if adopted.runners.is_empty() {
        let shown = Untrusted(&config.to_string_lossy()).to_string();
        return match format {
            Format::Text => print(&format!("{shown}: no runner calls Jacamar CI; nothing changes\n")),
            Format::Json => {
                print_json(&json!({ "runners": [], "changes": [], "findings": [], "changed": false }))
            }
        }
        .map(|()| OK);
    }
    let plan = Plan::new(options, text, adopted, place.is_roots())?;
    let stops =
        |finding: &&Finding| finding.is_error() && !options.allow.iter().any(|code| code == finding.code());
    let errors = plan.findings.iter().filter(stops).count();
    let done = errors == 0 && !options.dry_run;
    if done {
        kept::change(&options.state, &plan.files())?;
    }
    plan.report(options, errors, done, format)?;
    Ok(if errors == 0 { OK } else { INVALID })
}

/// What would change, and what was found about it.
struct Plan {
    config: PathBuf,
    /// gitlab-runner's file as it is.
    text: String,
    /// Whether only root can change it. Otherwise nothing in it makes a file or a server trusted.
    is_roots: bool,
    adopted: Adopted,
    /// The list as it is; none where there is none.
    list: Option<String>,
    /// The list as it will be.
    new_list: String,
    /// The lines of the list that are new or different.
    lines: Vec<String>,
    /// What a line of the list says of the proxy.
    proxy: Option<String>,
    findings: Vec<Finding>,
    /// What would become of the job whose token was given, for each configuration.
    explained: Vec<String>,
}

impl Plan {
    fn new(options: &Adopt, text: String, adopted: Adopted, is_roots: bool) -> Result<Plan, CtlError> {
        let list = Place::open(Path::new(CONFIGURATIONS))?
            .read()?
            .map(|bytes| {
                String::from_utf8(bytes).map_err(|_| CtlError::new(format!("{CONFIGURATIONS}: not UTF-8")))
            })
            .transpose()?;
        let (proxy, auth_file) = options.proxy.checked()?;
        let auth_file =
            auth_file.map_or_else(String::new, |file| format!(" proxy_auth_file={}", file.display()));
        let mut plan = Plan {
            proxy: proxy.map(|proxy| format!("proxy={proxy}{auth_file}")),
            config: options.runner_config.clone(),
            text,
            is_roots,
            new_list: list.clone().unwrap_or_default(),
            list,
            lines: Vec::new(),
            findings: Vec::new(),
            explained: Vec::new(),
            adopted,
        };
        for (file, runners) in plan.configurations() {
            plan.configuration(options, &file, &runners)?;
        }
        Ok(plan)
    }

    /// The files that the runners name, with these runners. One without a file is a finding.
    fn configurations(&mut self) -> BTreeMap<PathBuf, Vec<Runner>> {
        let mut all: BTreeMap<PathBuf, Vec<Runner>> = BTreeMap::new();
        for runner in &self.adopted.runners {
            match &runner.configuration {
                Some(file) => all.entry(file.clone()).or_default().push(runner.clone()),
                None => {
                    let message = format!("runner `{}` names no configuration", runner.name);
                    let help = "add `\"--configuration\", \"FILE\"` to its config_args";
                    let place = format!("{}:{}", self.config.display(), runner.line);
                    self.findings.push(Finding::error("adopt", message, help).at(place));
                }
            }
        }
        all
    }

    fn configuration(&mut self, options: &Adopt, file: &Path, runners: &[Runner]) -> Result<(), CtlError> {
        if !file.is_absolute() {
            let message = format!("{}: not an absolute path", Untrusted(&file.to_string_lossy()));
            self.findings.push(Finding::error(
                "adopt",
                message,
                "write the whole path in the runner's arguments",
            ));
            return Ok(());
        }
        let sources = match sources(file) {
            Ok(sources) => sources,
            Err(why) => {
                let CtlError::Failure(message) = why else { return Err(why) };
                self.findings.push(Finding::error(
                    "adopt",
                    message,
                    "correct the path in the runner's arguments",
                ));
                return Ok(());
            }
        };
        self.list(options, file, runners, &sources);
        match Policy::read(&self.with_list(file, sources)) {
            Ok(reading) => self.check(options, file, runners, &reading)?,
            Err(findings) => self.findings.extend(findings.into_iter().map(|found| {
                let help = found.help.unwrap_or_default();
                Finding::error("configuration", found.message, help).at(found.place.to_string())
            })),
        }
        Ok(())
    }

    /// Adds the file to the list, with a server where it names none, and with its proxy.
    fn list(&mut self, options: &Adopt, file: &Path, runners: &[Runner], sources: &[SourceFile]) {
        let read = Policy::read_partially(&self.with_list(file, sources.to_vec()));
        let is_default = file == Path::new(DEFAULT_CONFIGURATION);
        let is_native = read.policy.as_ref().is_some_and(|policy| policy.dialect == Dialect::Native);
        if self.proxy.is_some() && (is_native || is_default) {
            let message = format!(
                "{}: --proxy is for a listed file of Jacamar CI's",
                Untrusted(&file.to_string_lossy())
            );
            self.findings.push(Finding::error(
                "adopt",
                message,
                "write `proxy = \"http://HOST:PORT\"` in its [[gitlab]]",
            ));
            return;
        }
        if is_default {
            return;
        }
        let lacks_server = read.findings.iter().any(|finding| finding.message == NO_GITLAB_SERVER);
        let servers = read.policy.as_ref().map_or(&[][..], |policy| &policy.gitlab);
        let own = servers.first().map(|server| server.url.clone()).filter(|_| !lacks_server);
        let is_listed = self.new_list.lines().any(|line| listed(line).0 == file);
        if is_listed && !lacks_server && self.proxy.is_none() {
            return;
        }
        match self.line(options, file, runners, is_listed, own) {
            Ok(line) => {
                let others = self.new_list.lines().filter(|line| listed(line).0 != file);
                let text: String = others.chain([line.as_str()]).map(|line| format!("{line}\n")).collect();
                self.new_list = text;
                self.lines.push(line);
            }
            Err(finding) => self.findings.push(finding),
        }
    }

    /// The line for a file. What gitlab-runner's file says counts where only root can have written it: its owner would
    /// otherwise have any old policy listed, or name a server of its own, which signs what it likes.
    fn line(
        &self,
        options: &Adopt,
        file: &Path,
        runners: &[Runner],
        is_listed: bool,
        own: Option<String>,
    ) -> Result<String, Finding> {
        let shown = file.to_string_lossy();
        let others = || format!("others than root can change {}", self.config.display());
        if shown.contains(char::is_control) || listed(&shown).0 != file {
            let message = format!("{}: this path cannot be listed", Untrusted(&shown));
            return Err(Finding::error("adopt", message, "give the file another name"));
        }
        if !self.is_roots && !is_listed && !options.configuration.iter().any(|named| named == file) {
            let message = format!("{}, which names {}", others(), Untrusted(&shown));
            let help = format!("if that is the site's configuration, add --configuration {}", file.display());
            return Err(Finding::error("adopt", message, help));
        }
        if own.is_some() && self.proxy.is_none() {
            return Ok(shown.into_owned());
        }
        let url = match (own, &options.gitlab_server) {
            (Some(own), _) => own,
            (None, Some(url)) => url.trim_end_matches('/').to_owned(),
            (None, None) if self.is_roots => server_of(file, runners)?,
            (None, None) => {
                let message = format!("{}, so the server of its runners is not taken from there", others());
                return Err(Finding::error(
                    "adopt",
                    message,
                    "add --gitlab-server https://gitlab.example.org",
                ));
            }
        };
        let odd = |c: char| c.is_control() || c.is_whitespace();
        let sound = if url.contains(odd) { Err("write it without spaces") } else { check_url(&url) };
        if let Err(help) = sound {
            let message = format!("{}: not the URL of a GitLab server", Untrusted(&url));
            return Err(Finding::error("adopt", message, help));
        }
        let proxy = self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" {proxy}"));
        Ok(format!("{shown} {url}{proxy}"))
    }

    /// The sources with the list as it will be.
    fn with_list(&self, file: &Path, mut sources: Vec<SourceFile>) -> Vec<SourceFile> {
        if file != Path::new(DEFAULT_CONFIGURATION) {
            sources.insert(1, SourceFile { path: CONFIGURATIONS.into(), text: self.new_list.clone() });
        }
        sources
    }

    fn check(
        &mut self,
        options: &Adopt,
        file: &Path,
        runners: &[Runner],
        reading: &Reading,
    ) -> Result<(), CtlError> {
        let policy = &reading.policy;
        let runner = &options.runner.runner_user;
        let mut findings = check::of_policy(policy);
        findings.extend(check::lost_keys(reading));
        host_facts::inspect(policy, runner, &mut findings);
        let service = runner_config::inspect_text(policy, &self.config, &self.adopted.text, &mut findings);
        machine::inspect(policy, &mut findings);
        if systemd::is_booted() {
            let running = || runner_processes::unit(&runner_processes::of(host::runner(policy, runner)));
            let unit = options.unit.clone().or_else(running);
            let unit = unit.as_deref().unwrap_or(runner_unit::DEFAULT);
            runner_unit::inspect(policy, unit, service, &mut findings);
        }
        for runner in runners.iter().filter(|runner| runner.no_auth && policy.downscope != Downscope::None) {
            let message = format!(
                "runner `{}` calls Jacamar CI with --no-auth, so `downscope` of {} had no effect; it has in Nunbird",
                runner.name,
                file.display()
            );
            let help =
                "write `downscope = \"none\"` in [auth], if the runner shall stay one of a single account";
            let place = format!("{}:{}", self.config.display(), runner.line);
            findings.push(Finding::error("adopt", message, help).at(place));
        }
        // The list is written with the rest, and another file of the same runners is checked by itself.
        let known: BTreeSet<String> = self.findings.iter().map(ToString::to_string).collect();
        findings.retain(|finding| {
            !["not-listed", "runner-other"].contains(&finding.code()) && !known.contains(&finding.to_string())
        });
        // The first job has the keys of a new server fetched.
        let file_of = |server: &GitLabServer| policy.keys_dir.join(format!("{}.json", server.name));
        let is_new = policy.gitlab.iter().all(|server| !file_of(server).exists());
        let settle = |finding: Finding| {
            if is_new && finding.code() == "keys" { finding.into_remark() } else { finding }
        };
        self.findings.extend(findings.into_iter().map(settle));
        if let Some(token) = &options.token {
            let (code, text) = explain::of_token(reading, token, runner)?;
            self.explained.push(format!("{}:\n{text}", Untrusted(&file.to_string_lossy())));
            if code != OK {
                let message = format!("with {}, the job of this token would not run", file.display());
                let help = "see why above; `nunbirdctl explain --token` shows the same again";
                self.findings.push(Finding::error("token", message, help));
            }
        }
        Ok(())
    }

    /// The files that change, the list first: no runner ever names a configuration that is not in it.
    fn files(&self) -> Vec<Changed> {
        let list = Changed {
            file: PathBuf::from(CONFIGURATIONS),
            before: self.list.as_ref().map(|text| text.clone().into_bytes()),
            after: self.new_list.clone().into_bytes(),
        };
        let config = Changed {
            file: self.config.clone(),
            before: Some(self.text.clone().into_bytes()),
            after: self.adopted.text.clone().into_bytes(),
        };
        let list = Some(list).filter(|_| !self.lines.is_empty());
        list.into_iter().chain([config]).collect()
    }

    fn report(&self, options: &Adopt, errors: usize, done: bool, format: Format) -> Result<(), CtlError> {
        if format == Format::Json {
            return print_json(&self.machine(done));
        }
        let mut text = String::new();
        if !self.lines.is_empty() {
            text.push_str(&format!("{CONFIGURATIONS}\n"));
            text.extend(self.lines.iter().map(|line| format!("  + {}\n", Untrusted(line))));
        }
        text.push_str(&format!("{}\n", Untrusted(&self.config.to_string_lossy())));
        for change in &self.adopted.changes {
            let (before, after) = (Untrusted(&change.before), Untrusted(&change.after));
            text.push_str(&format!("  line {}\n    - {before}\n    + {after}\n", change.line));
        }
        text.push('\n');
        text.extend(self.explained.iter().map(|text| format!("{text}\n")));
        text.extend(self.findings.iter().map(|finding| format!("{finding}\n\n")));
        let runners = self.adopted.runners.len();
        let runners = if runners == 1 { "1 runner".to_owned() } else { format!("{runners} runners") };
        text.push_str(&if errors > 0 {
            format!(
                "nothing was changed: correct the errors first ({errors}), or allow one by its code: --allow CODE\n"
            )
        } else if done {
            format!(
                "{runners} adopted. gitlab-runner reads its file again by itself; jobs that run now end with Jacamar CI.\n\
                 `nunbirdctl adopt --undo` takes it back; the files as they were are below {}\n",
                Untrusted(&options.state.to_string_lossy())
            )
        } else {
            format!("{runners} can be adopted; nothing was changed (--dry-run)\n")
        });
        print(&text)
    }

    fn machine(&self, done: bool) -> Value {
        let runners: Vec<Value> = self
            .adopted
            .runners
            .iter()
            .map(|runner| {
                json!({ "name": runner.name, "line": runner.line, "configuration": runner.configuration, "url": runner.url })
            })
            .collect();
        let lines = self.lines.iter().map(|line| json!({ "file": CONFIGURATIONS, "after": line }));
        let changes = self.adopted.changes.iter().map(|change| {
            json!({ "file": self.config, "line": change.line, "before": change.before, "after": change.after })
        });
        json!({
            "runners": runners,
            "changes": lines.chain(changes).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(Finding::machine).collect::<Vec<_>>(),
            "changed": done,
        })
    }
}

/// The configuration with its `conf.d`.
fn sources(file: &Path) -> Result<Vec<SourceFile>, CtlError> {
    let more = files::more(file)?;
    let all = std::iter::once(file).chain(more.iter().map(PathBuf::as_path));
    all.map(|path| Ok(SourceFile { path: path.to_path_buf(), text: files::text(path)? })).collect()
}

/// The one server that all these runners are registered with.
fn server_of(file: &Path, runners: &[Runner]) -> Result<String, Finding> {
    let urls: BTreeSet<&str> = runners.iter().filter_map(|runner| runner.url.as_deref()).collect();
    let mut urls = urls.into_iter();
    match (urls.next(), urls.next()) {
        (Some(url), None) => Ok(url.to_owned()),
        (first, second) => {
            let message = match (first, second) {
                (Some(first), Some(second)) => {
                    format!("runners of several servers name {}: {first}, {second}", file.display())
                }
                _ => format!("{} names no server, and its runners have no url", file.display()),
            };
            let help = "give each server a configuration of its own, with `gitlab_server` in [general]";
            Err(Finding::error("adopt", message, help))
        }
    }
}

fn undo(options: &Adopt, format: Format) -> Result<u8, CtlError> {
    let (place, files) = kept::last(&options.state)?;
    if !options.dry_run {
        kept::undo(&place, &files)?;
    }
    match format {
        Format::Text => {
            let done = if options.dry_run { "would be" } else { "is" };
            let mut text = String::new();
            for one in &files {
                let what = if one.before.is_some() { "as it was" } else { "removed" };
                text.push_str(&format!("{} {done} {what}\n", Untrusted(&one.file.to_string_lossy())));
            }
            print(&text)?;
        }
        Format::Json => {
            let names: Vec<&PathBuf> = files.iter().map(|one| &one.file).collect();
            print_json(&json!({ "restored": names, "changed": !options.dry_run }))?;
        }
    }
    Ok(OK)
}

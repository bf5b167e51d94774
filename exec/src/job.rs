//! One job of a pipeline, with everything that it inherits.

use crate::conditions::{self, Facts, Judged, Verdict};
use crate::failure::{Failure, Place, nearest};
use crate::instances::Instance;
use crate::pipeline::{Pipeline, expected};
use crate::predefined::slug;
use crate::tree::Tree;
use crate::variables::{Values, Variables};
use crate::yaml::{Map, Node, Value};
use nunbird_handover::Untrusted;

/// Lists within lists of commands: GitLab's own bound.
const DEEPEST: usize = 10;

/// Keys that a job takes from `default:`, and the old ones from the top of the file.
const DEFAULTS: [&str; 12] = [
    "after_script",
    "artifacts",
    "before_script",
    "cache",
    "hooks",
    "id_tokens",
    "image",
    "interruptible",
    "retry",
    "services",
    "tags",
    "timeout",
];
const OLD_DEFAULTS: [&str; 5] = ["after_script", "before_script", "cache", "image", "services"];

/// Every key of a job that GitLab has.
const KEYS: [&str; 43] = [
    "after_script",
    "allow_failure",
    "artifacts",
    "before_script",
    "cache",
    "coverage",
    "dast_configuration",
    "dependencies",
    "description",
    "environment",
    "except",
    "execution_policy",
    "extends",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "inherit",
    "inputs",
    "interruptible",
    "manual_confirmation",
    "needs",
    "only",
    "pages",
    "parallel",
    "publish",
    "release",
    "resource_group",
    "retry",
    "rules",
    "run",
    "script",
    "secrets",
    "services",
    "stage",
    "start_in",
    "tags",
    "timeout",
    "trigger",
    "type",
    "types",
    "variables",
    "when",
];

/// An image, as the job names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedImage {
    /// Its name, with variables filled in.
    pub name: String,
    /// Its entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `pull_policy`.
    pub pull: Vec<String>,
    /// `docker: user`.
    pub user: Option<String>,
    /// `docker: platform`.
    pub platform: Option<String>,
    /// Where it is named; none for one of the command line.
    pub place: Option<Place>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedService {
    /// Its image.
    pub image: AskedImage,
    /// `alias`, which may be several.
    pub aliases: Vec<String>,
    /// `command`.
    pub command: Option<Vec<String>>,
    /// Its own variables, before expansion.
    pub variables: Variables,
}

/// `artifacts:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// Patterns of what is kept.
    pub paths: Vec<String>,
    /// Patterns of what is not.
    pub exclude: Vec<String>,
    /// Whether files are kept that git does not know.
    pub untracked: bool,
    /// `on_success`, `on_failure` or `always`.
    pub when: String,
}

/// A job that can run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name, with `[a, b]` or `1/3` of `parallel`.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// `before_script` and `script`.
    pub script: Vec<String>,
    /// `after_script`.
    pub after_script: Vec<String>,
    /// All variables, expanded, without those of directories.
    pub values: Values,
    /// The same before expansion, without the user's own.
    pub layers: Variables,
    /// Names of variables that a service gets as well: those of the file.
    pub public: Vec<String>,
    /// `image:`.
    pub image: Option<AskedImage>,
    /// `services:`.
    pub services: Vec<AskedService>,
    /// `artifacts:`.
    pub artifacts: Option<Artifacts>,
    /// Whether a pipeline has it.
    pub verdict: Verdict,
    /// What is allowed to fail: all, or exit codes.
    pub allow_failure: AllowFailure,
    /// What it asks for that is not done here.
    pub notes: Vec<String>,
}

/// `allow_failure:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowFailure {
    /// Nothing.
    No,
    /// Every failure.
    Yes,
    /// These exit codes.
    Codes(Vec<i32>),
}

/// Variables beside those of the file, the weaker ones first.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// GitLab's own.
    pub predefined: &'a Variables,
    /// The user's: from a file or the command line.
    pub given: &'a Variables,
    /// The project's files.
    pub tree: &'a Tree,
}

impl Job {
    /// Reads one.
    ///
    /// # Errors
    /// For whatever GitLab would refuse, and for what has no script.
    pub fn read(
        pipeline: &Pipeline,
        instance: &Instance<'_>,
        around: Around<'_>,
        remarks: &mut Vec<String>,
    ) -> Result<Job, Failure> {
        let own = instance.entry.node.map().cloned().unwrap_or_default();
        check_keys(&own)?;
        let map = with_defaults(pipeline, &own)?;
        let stage = stage(pipeline, instance, &map)?;
        let Judgement { values, layers, public, judged } =
            judge(pipeline, instance, &map, &stage, around, remarks)?;
        let script = lines(&map, "script")?;
        if script.is_empty() {
            return Err(without_script(instance, &map));
        }
        let mut whole = lines(&map, "before_script")?;
        whole.extend(script);
        let allow_failure = judged.allow_failure.as_ref().or_else(|| map.get("allow_failure"));
        let image =
            map.get("image").filter(|node| !node.is_null()).map(|node| image(node, &values)).transpose()?;
        Ok(Job {
            name: instance.name.clone(),
            stage,
            script: whole,
            after_script: lines(&map, "after_script")?,
            image,
            services: services(&map, &values)?,
            artifacts: artifacts(&map, &values)?,
            allow_failure: allow(allow_failure)?,
            notes: notes(&map),
            verdict: judged.verdict,
            values,
            layers,
            public,
        })
    }
}

/// A line of the list of jobs.
#[derive(Debug)]
pub struct Listed {
    /// The job's name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Its image; empty for none.
    pub image: String,
    /// Whether a pipeline has it.
    pub verdict: Verdict,
}

/// What a list says of a job.
///
/// # Errors
/// For a job that GitLab would refuse.
pub fn listed(
    pipeline: &Pipeline,
    instance: &Instance<'_>,
    around: Around<'_>,
    remarks: &mut Vec<String>,
) -> Result<Listed, Failure> {
    let own = instance.entry.node.map().cloned().unwrap_or_default();
    check_keys(&own)?;
    let map = with_defaults(pipeline, &own)?;
    let stage = stage(pipeline, instance, &map)?;
    let Judgement { values, judged, .. } = judge(pipeline, instance, &map, &stage, around, remarks)?;
    let image =
        map.get("image").filter(|node| !node.is_null()).map(|node| image(node, &values)).transpose()?;
    let verdict = match map.get("trigger") {
        Some(_) => Verdict::Not("it triggers a pipeline".to_owned()),
        None => judged.verdict,
    };
    Ok(Listed {
        name: instance.name.clone(),
        stage,
        image: image.map(|image| image.name).unwrap_or_default(),
        verdict,
    })
}

fn check_keys(map: &Map) -> Result<(), Failure> {
    let Some(entry) = map.entries().iter().find(|entry| !KEYS.contains(&entry.key.as_str())) else {
        return Ok(());
    };
    let failure = Failure::new(format!("a job has no key `{}`", Untrusted(&entry.key))).at(&entry.place);
    Err(match nearest(&entry.key, KEYS) {
        Some(near) => failure.help(format!("write `{near}`")),
        None => failure
            .help("GitLab refuses it, too: remove it, or move what jobs share into a hidden job (`.name:`)"),
    })
}

/// Whether `inherit:` lets the job have a key of `default:`, or a variable of the top.
fn inherits(map: &Map, kind: &str, name: &str) -> bool {
    let Some(node) = map.get("inherit").and_then(Node::map).and_then(|map| map.get(kind)) else {
        return true;
    };
    match node.list() {
        Some(names) => names.iter().any(|one| one.raw() == Some(name)),
        None => node.boolean().unwrap_or(true),
    }
}

fn with_defaults(pipeline: &Pipeline, own: &Map) -> Result<Map, Failure> {
    let mut map = own.clone();
    let default = pipeline.config.get("default").filter(|node| !node.is_null());
    let default =
        default.map(|node| node.map().ok_or_else(|| expected(node, "`default:` takes a map"))).transpose()?;
    if let Some(unknown) =
        default.and_then(|map| map.entries().iter().find(|entry| !DEFAULTS.contains(&entry.key.as_str())))
    {
        return Err(Failure::new(format!("`default:` has no key `{}`", Untrusted(&unknown.key)))
            .at(&unknown.place)
            .help(format!("known: {}", DEFAULTS.join(", "))));
    }
    for key in DEFAULTS {
        if map.get(key).is_some() || !inherits(own, "default", key) {
            continue;
        }
        let old = || pipeline.config.entry(key).filter(|_| OLD_DEFAULTS.contains(&key));
        if let Some(entry) = default.and_then(|map| map.entry(key)).or_else(old) {
            map.set(entry.clone());
        }
    }
    Ok(map)
}

fn stage(pipeline: &Pipeline, instance: &Instance<'_>, map: &Map) -> Result<String, Failure> {
    let node = map.get("stage");
    let stage = node.and_then(Node::text).unwrap_or_else(|| "test".to_owned());
    let named = pipeline.config.get("stages").filter(|node| !node.is_null());
    let mut known: Vec<String> = match named {
        Some(stages) => stages.one_or_more().iter().filter_map(Node::text).collect(),
        None => ["build", "test", "deploy"].map(str::to_owned).to_vec(),
    };
    known.insert(0, ".pre".to_owned());
    known.push(".post".to_owned());
    if known.contains(&stage) {
        return Ok(stage);
    }
    let names: Vec<String> = known.iter().map(|one| Untrusted(one).to_string()).collect();
    let failure = Failure::new(format!("the stage `{}` is not in `stages:`", Untrusted(&stage)));
    let failure = match node {
        Some(node) => failure.at(&node.place),
        None => failure.at(&instance.entry.place).help("a job without `stage:` is in the stage `test`"),
    };
    let failure = match nearest(&stage, known.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("write `{}`", Untrusted(near))),
        None => failure,
    };
    Err(failure.help(format!("the stages are {}", names.join(", "))))
}

/// The variables of a job, and what its rules say.
struct Judgement {
    values: Values,
    layers: Variables,
    /// The names of those that services get.
    public: Vec<String>,
    judged: Judged,
}

/// By GitLab's precedence, the weakest first: predefined, the top
/// of the file, `workflow:rules`, the job, `parallel`, the rule that matched, what the user gives.
fn judge(
    pipeline: &Pipeline,
    instance: &Instance<'_>,
    map: &Map,
    stage: &str,
    around: Around<'_>,
    remarks: &mut Vec<String>,
) -> Result<Judgement, Failure> {
    let globals = conditions::global_variables(&pipeline.config)?;
    let mut outer = around.predefined.clone();
    outer.add(&globals);
    outer.add(around.given);
    let tree = around.tree;
    let workflow =
        conditions::workflow(&pipeline.config, &Facts { values: &outer.expanded()?, tree }, remarks)?;
    let mut of_file = globals.only(|name| inherits(map, "variables", name));
    of_file.add(&workflow.variables.only(|name| inherits(map, "variables", name)));
    if let Some(own) = map.get("variables") {
        of_file.add(&conditions::variables(own)?);
    }
    of_file.add(&instance.variables);
    let mut all = around.predefined.clone();
    all.set("CI_JOB_NAME", &*instance.name);
    all.set("CI_JOB_NAME_SLUG", slug(&instance.name));
    all.set("CI_JOB_STAGE", stage);
    all.set("CI_NODE_TOTAL", "1");
    let environment = map.get("environment");
    let environment = environment.and_then(|node| node.map().map_or(Some(node), |map| map.get("name")));
    let environment = environment.and_then(Node::text);
    let layers = |of_file: &Variables| -> Result<Variables, Failure> {
        let mut all = all.clone();
        all.add(of_file);
        let Some(environment) = &environment else { return Ok(all) };
        // Its name has variables in it, and others may have the name.
        let mut whole = all.clone();
        whole.add(around.given);
        let name = whole.expanded()?.expand(environment);
        let mut named = Variables::default();
        named.set("CI_ENVIRONMENT_SLUG", slug(&name));
        named.set("CI_ENVIRONMENT_NAME", name);
        named.add(&all);
        Ok(named)
    };
    let merged = |of_file: &Variables| {
        let mut all = layers(of_file)?;
        all.add(around.given);
        all.expanded()
    };
    let mut judged = conditions::job(map, &Facts { values: &merged(&of_file)?, tree }, remarks)?;
    of_file.add(&judged.variables);
    if let Verdict::Not(why) = &workflow.verdict {
        judged.verdict = Verdict::Not(format!("`workflow:rules` make no pipeline: {why}"));
    }
    let values = merged(&of_file)?;
    let public = of_file.names().map(str::to_owned).collect();
    Ok(Judgement { values, layers: layers(&of_file)?, public, judged })
}

fn without_script(instance: &Instance<'_>, map: &Map) -> Failure {
    let place = &instance.entry.place;
    let shown = Untrusted(&instance.name);
    if map.get("trigger").is_some() {
        return Failure::new(format!("`{shown}` triggers another pipeline, which needs GitLab"))
            .at(place)
            .help("run a job with `script:`");
    }
    if map.get("run").is_some() {
        return Failure::new(format!("`{shown}` has steps (`run:`), which are not run here"))
            .at(place)
            .help("use `script:`");
    }
    Failure::new(format!("`{shown}` has no `script:`"))
        .at(place)
        .help("add `script:`, or begin its name with `.` if other jobs extend it")
}

/// The commands of a script: a text, or lists of texts within each other.
fn lines(map: &Map, key: &str) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    if let Some(node) = map.get(key).filter(|node| !node.is_null()) {
        collect(node, key, 0, &mut all)?;
    }
    Ok(all)
}

fn collect(node: &Node, key: &str, depth: usize, all: &mut Vec<String>) -> Result<(), Failure> {
    match &node.value {
        Value::Scalar(text, _) if text.contains('\0') => {
            Err(Failure::new(format!("a command of `{key}:` holds a NUL byte"))
                .at(&node.place)
                .help("remove `\\0`"))
        }
        Value::Scalar(text, _) => {
            all.push(text.clone());
            Ok(())
        }
        Value::List(_) if depth > DEEPEST => {
            Err(Failure::new(format!("lists in `{key}:` are more than {DEEPEST} deep"))
                .at(&node.place)
                .help("make them flatter"))
        }
        Value::List(items) => items.iter().try_for_each(|item| collect(item, key, depth + 1, all)),
        _ => Err(Failure::new(format!("a command of `{key}:` is {}", node.kind()))
            .at(&node.place)
            .help("put quotes around a command that has `: ` in it")),
    }
}

fn words(node: &Node, what: &str) -> Result<Vec<String>, Failure> {
    node.one_or_more().iter().map(|one| one.text().ok_or_else(|| expected(one, what))).collect()
}

fn image(node: &Node, values: &Values) -> Result<AskedImage, Failure> {
    let plain = |name: &str, place: &Place| AskedImage {
        name: values.expand(name),
        entrypoint: None,
        pull: Vec::new(),
        user: None,
        platform: None,
        place: Some(place.clone()),
    };
    let Some(map) = node.map() else {
        let name = node.raw().ok_or_else(|| expected(node, "`image:` takes a name or a map"))?;
        return Ok(plain(name, &node.place));
    };
    let name = map.get("name").and_then(Node::raw).ok_or_else(|| {
        Failure::new("the image has no name")
            .at(&node.place)
            .help("add `name: registry.example.org/path:tag`")
    })?;
    let mut image = plain(name, &node.place);
    if let Some(entrypoint) = map.get("entrypoint").filter(|node| !node.is_null()) {
        image.entrypoint = Some(words(entrypoint, "`entrypoint:` takes texts")?);
    }
    if let Some(policy) = map.get("pull_policy").filter(|node| !node.is_null()) {
        image.pull = words(policy, "`pull_policy:` takes texts")?;
    }
    if let Some(docker) = map.get("docker").and_then(Node::map) {
        image.user = docker.get("user").and_then(Node::text).map(|text| values.expand(&text));
        image.platform = docker.get("platform").and_then(Node::text).map(|text| values.expand(&text));
    }
    Ok(image)
}

fn services(map: &Map, values: &Values) -> Result<Vec<AskedService>, Failure> {
    let Some(node) = map.get("services").filter(|node| !node.is_null()) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for one in node.one_or_more().iter().flat_map(Node::one_or_more) {
        let map = one.map().cloned().unwrap_or_default();
        let command = map.get("command").filter(|node| !node.is_null());
        let alias = map.get("alias").and_then(Node::text).unwrap_or_default();
        let variables =
            map.get("variables").map_or_else(|| Ok(Variables::default()), conditions::variables)?;
        all.push(AskedService {
            image: image(one, values)?,
            aliases: alias.split([' ', ',']).filter(|alias| !alias.is_empty()).map(str::to_owned).collect(),
            command: command.map(|node| words(node, "`command:` takes texts")).transpose()?,
            variables,
        });
    }
    Ok(all)
}

fn artifacts(map: &Map, values: &Values) -> Result<Option<Artifacts>, Failure> {
    let Some(node) = map.get("artifacts").filter(|node| !node.is_null()) else { return Ok(None) };
    let map = node.map().ok_or_else(|| expected(node, "`artifacts:` takes a map"))?;
    let list = |key: &str| {
        let node = map.get(key).filter(|node| !node.is_null());
        let texts = node.map_or_else(|| Ok(Vec::new()), |node| words(node, "a path is a text"))?;
        Ok::<_, Failure>(texts.iter().map(|text| values.expand(text)).collect::<Vec<_>>())
    };
    let when = map.get("when").and_then(Node::text).unwrap_or_else(|| "on_success".to_owned());
    if !["on_success", "on_failure", "always"].contains(&when.as_str()) {
        let failure = Failure::new(format!("`artifacts:when` is not `{}`", Untrusted(&when))).at(&node.place);
        return Err(failure.help("write on_success, on_failure or always"));
    }
    let untracked = map.get("untracked").and_then(Node::boolean).unwrap_or(false);
    Ok(Some(Artifacts { paths: list("paths")?, exclude: list("exclude")?, untracked, when }))
}

fn allow(node: Option<&Node>) -> Result<AllowFailure, Failure> {
    let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(AllowFailure::No) };
    let Some(map) = node.map() else {
        let yes =
            node.boolean().ok_or_else(|| expected(node, "`allow_failure:` takes true, false or a map"))?;
        return Ok(if yes { AllowFailure::Yes } else { AllowFailure::No });
    };
    let codes =
        map.get("exit_codes").ok_or_else(|| expected(node, "`allow_failure:` takes `exit_codes:`"))?;
    let code = |one: &Node| {
        one.raw().and_then(|text| text.parse().ok()).ok_or_else(|| expected(one, "an exit code is a number"))
    };
    Ok(AllowFailure::Codes(codes.one_or_more().iter().map(code).collect::<Result<_, _>>()?))
}

/// What the job asks for and does not get, a line for each.
fn notes(map: &Map) -> Vec<String> {
    let has = |key: &str| {
        map.get(key).is_some_and(|node| !node.is_null() && node.list().is_none_or(|list| !list.is_empty()))
    };
    let mut notes = Vec::new();
    for (key, note) in [
        ("needs", "`needs:`: artifacts of other jobs are not there; run those jobs with --artifacts first"),
        ("dependencies", "`dependencies:`: artifacts of other jobs are not there"),
        ("cache", "`cache:`: no cache is restored or saved"),
        ("id_tokens", "`id_tokens:`: only GitLab issues tokens; their variables are not set"),
        ("secrets", "`secrets:`: none is fetched; name them in the file of --variables"),
        ("hooks", "`hooks:` are not run"),
        ("release", "`release:`: none is made"),
        ("run", "`run:`: steps are not run"),
        ("retry", "`retry:`: the job runs once"),
        ("timeout", "`timeout:` is not kept"),
    ] {
        if has(key) {
            notes.push(note.to_owned());
        }
    }
    notes
}

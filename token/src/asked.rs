//! `image:` and `services:` of a job response, complete and strictly read.
//!
//! gitlab-runner has expanded the names of images by then, and writes lists for what may be one text in .gitlab-ci.yml
//! (common/spec/spec.go, `Image`; common/build.go, `expandContainerOptions`). Variables of services are not expanded yet.

use crate::claims::is_plain;
use crate::response::Response;
use nunbird_handover::{PullPolicy, Untrusted};
use serde_json::{Map, Value};

/// The most services of a job.
pub const MAX_SERVICES: usize = 16;
/// The most words of an entrypoint or a command.
pub(crate) const MAX_WORDS: usize = 64;
/// The most names of a service, its image's own included.
pub(crate) const MAX_ALIASES: usize = 16;
/// The most ports of a service.
pub(crate) const MAX_PORTS: usize = 16;
/// The most variables of a service.
pub(crate) const MAX_VARIABLES: usize = 64;
/// The most of the job's variables that services get.
pub(crate) const MAX_PUBLIC: usize = 128;
/// The longest name of an image, an alias or a variable, in bytes.
pub(crate) const MAX_NAME: usize = 1024;
/// Bytes of all texts together: they fit into the job's record.
pub(crate) const MAX_BYTES: usize = 20 << 10;

/// All that a job says of its image and its services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedContainers {
    /// The image of the scripts.
    pub image: Option<AskedImage>,
    /// The services, in the job's order.
    pub services: Vec<AskedService>,
    /// Names of the job's variables that anybody may know, which services get as well; empty where the job has no services.
    pub public: Vec<String>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedImage {
    /// Its name, printable and not empty.
    pub name: String,
    /// Replaces the image's own entrypoint; empty for none at all (`entrypoint: [""]`).
    pub entrypoint: Option<Vec<String>>,
    /// `docker: user`.
    pub user: Option<String>,
    /// `docker: platform`.
    pub platform: Option<String>,
    /// `pull_policy`; empty where the job says nothing.
    pub pull: Vec<PullPolicy>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedService {
    /// Its image.
    pub image: AskedImage,
    /// The names that the job gives it; none where it gives none.
    pub aliases: Vec<String>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// TCP ports that the job names.
    pub ports: Vec<u16>,
    /// Its own variables, the last one of a name alone.
    pub variables: Vec<AskedVariable>,
}

/// A variable of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedVariable {
    /// Its name.
    pub name: String,
    /// Its value as the job has it.
    pub value: String,
    /// Whether `$` is a character like any other in it (`expand: false`).
    pub raw: bool,
}

/// Reads what the job asks for.
///
/// # Errors
/// The first field that has another form than gitlab-runner writes, or more than the bounds above: `services[0].alias`.
pub(crate) fn read(response: &Response) -> Result<AskedContainers, String> {
    let image = match &response.image {
        Value::Null => None,
        value => image(object(value, "image")?, "image")?,
    };
    let services = match &response.services {
        Value::Null => Vec::new(),
        Value::Array(all) if all.len() <= MAX_SERVICES => all
            .iter()
            .enumerate()
            .map(|(index, one)| service(one, &format!("services[{index}]")))
            .collect::<Result<_, _>>()?,
        _ => return Err("services".to_owned()),
    };
    let public = if services.is_empty() { Vec::new() } else { public(response)? };
    let asked = AskedContainers { image, services, public };
    if asked.bytes() > MAX_BYTES {
        Err("image and services: more than 20 KiB of text".to_owned())
    } else {
        Ok(asked)
    }
}

impl AskedContainers {
    fn bytes(&self) -> usize {
        let of_services = self.services.iter().map(AskedService::bytes).sum::<usize>();
        self.image.as_ref().map_or(0, AskedImage::bytes) + of_services + texts(&self.public)
    }

    /// Whether it is one that [`read`] gives.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |image: &AskedImage| is_name(&image.name);
        self.bytes() <= MAX_BYTES
            && self.image.iter().all(sound)
            && self
                .services
                .iter()
                .all(|service| sound(&service.image) && service.aliases.iter().all(|alias| is_host(alias)))
    }
}

impl AskedImage {
    fn bytes(&self) -> usize {
        let optional = self.user.iter().chain(&self.platform).map(String::len).sum::<usize>();
        self.name.len() + optional + self.entrypoint.as_deref().map_or(0, texts)
    }
}

impl AskedService {
    fn bytes(&self) -> usize {
        let variables = self.variables.iter().map(|one| one.name.len() + one.value.len()).sum::<usize>();
        self.image.bytes() + texts(&self.aliases) + self.command.as_deref().map_or(0, texts) + variables
    }
}

fn texts(all: &[String]) -> usize {
    all.iter().map(String::len).sum()
}

fn object<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| field.to_owned())
}

/// None for an image without a name, which is how gitlab-runner writes that there is none.
fn image(fields: &Map<String, Value>, path: &str) -> Result<Option<AskedImage>, String> {
    let name = text(fields, "name", path)?.unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    if !is_name(&name) {
        return Err(format!("{path}.name"));
    }
    let (user, platform) = options(fields, path)?;
    // Only its form counts: nothing connects to the job's own container.
    ports(fields, path)?;
    Ok(Some(AskedImage {
        name,
        entrypoint: words(fields, "entrypoint", path)?
            .map(|words| if words == [""] { Vec::new() } else { words }),
        user,
        platform,
        pull: pull(fields, path)?,
    }))
}

fn service(value: &Value, path: &str) -> Result<AskedService, String> {
    let fields = object(value, path)?;
    let image = image(fields, path)?.ok_or_else(|| format!("{path}.name"))?;
    let alias = text(fields, "alias", path)?.unwrap_or_default();
    let aliases: Vec<String> =
        alias.split([' ', ',', '\t', '\n']).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    // Half of them are for the names that come from the image.
    if aliases.len() > MAX_ALIASES / 2 || !aliases.iter().all(|alias| is_host(alias)) {
        return Err(format!("{path}.alias"));
    }
    Ok(AskedService {
        image,
        aliases,
        command: words(fields, "command", path)?,
        ports: ports(fields, path)?,
        variables: variables(fields, path)?,
    })
}

/// A text; none where it is absent or null.
fn text(fields: &Map<String, Value>, key: &str, path: &str) -> Result<Option<String>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_text(text) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{path}.{key}")),
    }
}

/// Words of a command; none where there is no such list, or an empty one, which gitlab-runner does not distinguish.
fn words(fields: &Map<String, Value>, key: &str, path: &str) -> Result<Option<Vec<String>>, String> {
    let malformed = || format!("{path}.{key}");
    let words = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(words)) if words.len() <= MAX_WORDS => words,
        Some(_) => return Err(malformed()),
    };
    let word =
        |word: &Value| word.as_str().filter(|word| is_text(word)).map(str::to_owned).ok_or_else(malformed);
    let words: Vec<String> = words.iter().map(word).collect::<Result<_, _>>()?;
    Ok(Some(words).filter(|words| !words.is_empty()))
}

/// `executor_opts.docker`: user, which may be a number, and platform.
fn options(fields: &Map<String, Value>, path: &str) -> Result<(Option<String>, Option<String>), String> {
    let Some(options) = fields.get("executor_opts").filter(|value| !value.is_null()) else {
        return Ok((None, None));
    };
    let path = format!("{path}.executor_opts");
    let Some(docker) = object(options, &path)?.get("docker").filter(|value| !value.is_null()) else {
        return Ok((None, None));
    };
    let path = format!("{path}.docker");
    let docker = object(docker, &path)?;
    let user = match docker.get("user") {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => text(docker, "user", &path)?,
    };
    let platform = text(docker, "platform", &path)?;
    let plain = |text: Option<String>, key: &str| match text.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > 255 || !is_plain(&text) => Err(format!("{path}.{key}")),
        other => Ok(other),
    };
    Ok((plain(user, "user")?, plain(platform, "platform")?))
}

fn pull(fields: &Map<String, Value>, path: &str) -> Result<Vec<PullPolicy>, String> {
    let malformed = || format!("{path}.pull_policy");
    let one = |value: &Value| match value.as_str() {
        Some("always") => Ok(PullPolicy::Always),
        Some("if-not-present") => Ok(PullPolicy::IfNotPresent),
        Some("never") => Ok(PullPolicy::Never),
        _ => Err(malformed()),
    };
    match fields.get("pull_policy") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= 3 => all.iter().map(one).collect(),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(value @ Value::String(_)) => Ok(vec![one(value)?]),
        Some(_) => Err(malformed()),
    }
}

/// Numbers of TCP ports. A port of another protocol counts as malformed: nobody could wait for it.
fn ports(fields: &Map<String, Value>, path: &str) -> Result<Vec<u16>, String> {
    let malformed = || format!("{path}.ports");
    let port = |value: &Value| {
        let number =
            value.get("number").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
        let tcp = match value.get("protocol") {
            None | Some(Value::Null) => true,
            Some(protocol) => matches!(protocol.as_str(), Some("" | "tcp" | "http" | "https")),
        };
        number.filter(|number| *number != 0 && tcp).ok_or_else(malformed)
    };
    match fields.get("ports") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= MAX_PORTS => all.iter().map(port).collect(),
        Some(_) => Err(malformed()),
    }
}

fn variables(fields: &Map<String, Value>, path: &str) -> Result<Vec<AskedVariable>, String> {
    let all = match fields.get("variables") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= MAX_VARIABLES => all,
        Some(_) => return Err(format!("{path}.variables")),
    };
    let mut variables: Vec<AskedVariable> = Vec::new();
    for (index, value) in all.iter().enumerate() {
        let path = format!("{path}.variables[{index}]");
        let fields = object(value, &path)?;
        let name = text(fields, "key", &path)?
            .filter(|name| is_variable(name))
            .ok_or_else(|| format!("{path}.key"))?;
        let raw = match fields.get("raw") {
            None | Some(Value::Null) => false,
            Some(raw) => raw.as_bool().ok_or_else(|| format!("{path}.raw"))?,
        };
        let value = text(fields, "value", &path)?.unwrap_or_default();
        variables.retain(|known| known.name != name);
        variables.push(AskedVariable { name, value, raw });
    }
    Ok(variables)
}

/// The job's own variables that GitLab calls public. GitLab's and the runner's predefined ones are not among them: a server needs none.
fn public(response: &Response) -> Result<Vec<String>, String> {
    let predefined = |name: &str| {
        ["CI", "GITLAB_", "FF_", "RUNNER_", "NUNBIRD_", "DOCKER_AUTH_CONFIG"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let mut names: Vec<String> = Vec::new();
    for variable in response.variables.iter().filter(|variable| variable.public && !variable.file) {
        let name = &variable.key;
        if is_variable(name) && !predefined(name) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.len() > MAX_PUBLIC { Err("variables: too many for the services".to_owned()) } else { Ok(names) }
}

/// Nothing that a terminal or a log would act on, but tabs and line ends.
pub(crate) fn is_text(text: &str) -> bool {
    text.len() <= MAX_BYTES && !text.chars().any(|c| Untrusted::is_deceptive(c) && !matches!(c, '\n' | '\t'))
}

pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && is_plain(text)
}

/// A name that may stand in hosts(5).
pub(crate) fn is_host(name: &str) -> bool {
    let shape = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(shape) && !name.starts_with(['-', '.'])
}

/// A name that a shell could export.
pub(crate) fn is_variable(name: &str) -> bool {
    let shape = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(shape)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{AskedContainers, AskedImage, AskedService, AskedVariable, MAX_SERVICES, read};
    use crate::response::Response;
    use nunbird_handover::PullPolicy;
    use serde_json::{Value, json};

    fn asked(more: &Value) -> Result<AskedContainers, String> {
        let mut response = json!({ "id": 1, "job_info": { "project_id": 1 } });
        response.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        read(&Response::parse(response.to_string().as_bytes()).expect("a response"))
    }

    #[test]
    fn all_that_gitlab_runner_writes_of_images_and_services_is_read() {
        let found = asked(&json!({
            "variables": [
                { "key": "POSTGRES_DB", "value": "app", "public": true },
                { "key": "CI_COMMIT_SHA", "value": "0", "public": true },
                { "key": "PASSWORD", "value": "x" },
                { "key": "KEY_FILE", "value": "x", "public": true, "file": true },
            ],
            "image": {
                "name": "registry.example.org/a/b:1", "entrypoint": [""], "pull_policy": "never",
                "executor_opts": { "docker": { "platform": "linux/arm64", "user": 1000 }, "kubernetes": { "user": "" } },
            },
            "services": [{
                "name": "postgres:16", "alias": "db, database\tpg", "command": ["-c", "two\nlines"],
                "ports": [{ "number": 5432, "protocol": "tcp", "name": "x" }],
                "variables": [
                    { "key": "A", "value": "old", "public": true, "file": false, "masked": false, "raw": false },
                    { "key": "A", "value": "$PASSWORD" }, { "key": "B", "value": "$x", "raw": true },
                ],
                "pull_policy": ["always", "if-not-present"],
            }],
        }));
        let variable = |name: &str, value: &str, raw| AskedVariable {
            name: name.to_owned(),
            value: value.to_owned(),
            raw,
        };
        let expected = AskedContainers {
            image: Some(AskedImage {
                name: "registry.example.org/a/b:1".to_owned(),
                entrypoint: Some(Vec::new()),
                user: Some("1000".to_owned()),
                platform: Some("linux/arm64".to_owned()),
                pull: vec![PullPolicy::Never],
            }),
            services: vec![AskedService {
                image: AskedImage {
                    name: "postgres:16".to_owned(),
                    pull: vec![PullPolicy::Always, PullPolicy::IfNotPresent],
                    ..AskedImage::default()
                },
                aliases: ["db", "database", "pg"].map(str::to_owned).to_vec(),
                command: Some(vec!["-c".to_owned(), "two\nlines".to_owned()]),
                ports: vec![5432],
                variables: vec![variable("A", "$PASSWORD", false), variable("B", "$x", true)],
            }],
            public: vec!["POSTGRES_DB".to_owned()],
        };
        assert_eq!(found, Ok(expected));
        for nothing in [
            json!({}),
            json!({ "image": { "name": "" }, "services": [] }),
            json!({ "image": null, "services": null }),
        ] {
            assert_eq!(asked(&nothing), Ok(AskedContainers::default()), "{nothing}");
        }
        let empty = asked(&json!({ "image": { "name": "a", "entrypoint": [] } })).expect("an image");
        assert_eq!(empty.image.map(|image| image.entrypoint), Some(None));
    }

    #[test]
    fn what_is_malformed_is_named_by_its_field() {
        let service = |more: Value| {
            let mut one = json!({ "name": "redis" });
            one.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({ "services": [{ "name": "postgres" }, one] })
        };
        let image = |more: Value| {
            let mut one = json!({ "name": "redis" });
            one.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({ "image": one })
        };
        for (response, field) in [
            (json!({ "image": 7 }), "image"),
            (json!({ "image": { "name": 7 } }), "image.name"),
            (json!({ "image": { "name": "a\u{1b}b" } }), "image.name"),
            (json!({ "image": { "name": "a\nb" } }), "image.name"),
            (json!({ "image": { "name": "x".repeat(1025) } }), "image.name"),
            (image(json!({ "entrypoint": "sh" })), "image.entrypoint"),
            (image(json!({ "entrypoint": [7] })), "image.entrypoint"),
            (image(json!({ "entrypoint": ["a\u{0}"] })), "image.entrypoint"),
            (image(json!({ "entrypoint": vec!["a"; 65] })), "image.entrypoint"),
            (image(json!({ "pull_policy": "sometimes" })), "image.pull_policy"),
            (image(json!({ "pull_policy": vec!["never"; 4] })), "image.pull_policy"),
            (image(json!({ "ports": [{ "number": 0 }] })), "image.ports"),
            (image(json!({ "executor_opts": 7 })), "image.executor_opts"),
            (image(json!({ "executor_opts": { "docker": [] } })), "image.executor_opts.docker"),
            (
                image(json!({ "executor_opts": { "docker": { "user": true } } })),
                "image.executor_opts.docker.user",
            ),
            (
                image(json!({ "executor_opts": { "docker": { "platform": "a\tb" } } })),
                "image.executor_opts.docker.platform",
            ),
            (json!({ "services": {} }), "services"),
            (json!({ "services": vec![json!({ "name": "a" }); MAX_SERVICES + 1] }), "services"),
            (json!({ "services": [{ "name": "a" }, "b"] }), "services[1]"),
            (json!({ "services": [{ "name": "" }] }), "services[0].name"),
            (service(json!({ "alias": "a/b" })), "services[1].alias"),
            (service(json!({ "alias": "-a" })), "services[1].alias"),
            (service(json!({ "alias": "a b c d e f g h i" })), "services[1].alias"),
            (service(json!({ "ports": [{ "number": 53, "protocol": "udp" }] })), "services[1].ports"),
            (
                service(json!({ "variables": [{ "key": "A-B", "value": "" }] })),
                "services[1].variables[0].key",
            ),
            (service(json!({ "variables": [{ "key": "A", "value": 7 }] })), "services[1].variables[0].value"),
            (service(json!({ "variables": [{ "key": "A", "raw": "yes" }] })), "services[1].variables[0].raw"),
            (
                service(json!({ "variables": [{ "key": "A", "value": "x".repeat(20 << 10) }] })),
                "image and services: more than 20 KiB of text",
            ),
        ] {
            assert_eq!(asked(&response), Err(field.to_owned()), "{response}");
        }
    }
}

//! The container of a job: its image and services, as the job asks for them and the site allows them; and what it does not get.

use crate::refusal::{Code, Refusal};
use nunbird_handover::{Bind, Container, CredentialHelpers, Image, PullPolicy, Service, Unserved, Untrusted};
use nunbird_policy::{
    AccountFacts, ContainerPolicy, ImageName, Images, Network, Policy, Rule, account_path, pull_policy_name,
    service_names,
};
use nunbird_token::{AskedContainers, AskedImage, AskedService, Containers};
use std::collections::BTreeMap;
use std::path::Path;

/// The service's variable that names its port, as gitlab-runner's docker executor reads it.
const HEALTHCHECK_PORT: &str = "HEALTHCHECK_TCP_PORT";
/// The most patterns that a user reads.
const SHOWN: usize = 8;

/// What a job gets of what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its container, where the site has one for it.
    pub container: Option<Container>,
    /// What let its image pass: the key of `[container.NAME]`, with the pattern.
    pub image_rule: Option<String>,
    /// What it asks for and does not get, where its user is to read of it.
    pub unserved: Option<Unserved>,
}

/// Where a container's directories are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The job's account.
    pub account: &'a AccountFacts,
    /// The directory of the account's jobs.
    pub data_dir: &'a Path,
    /// The decision's id, 32 hexadecimal digits.
    pub decision_id: &'a str,
}

/// The container of a job that the rule admits. In values of services' variables, `$NAME` and `${NAME}` still stand for variables
/// of the job, and `$$` for `$` (see [`crate::service_variables`]).
///
/// # Errors
/// A denial for what the site does not allow, for what cannot be read, for a job without an image where the site has none for
/// it, and for what it does not get where `images` says `refuse`.
pub fn of(
    policy: &Policy,
    rule: &Rule,
    containers: &Containers,
    place: &Place<'_>,
) -> Result<Given, Refusal> {
    let Some(from) = policy.container_of(rule) else {
        let unserved = unserved(policy, rule, containers, None)?;
        return Ok(Given { container: None, image_rule: None, unserved });
    };
    let asked = containers.asked.as_ref().map_err(|field| {
        let message = format!("`{}` of this job cannot be used", Untrusted(field));
        refused(
            from,
            message,
            format!("the job response: {}", Untrusted(field)),
            "correct it in .gitlab-ci.yml",
        )
    })?;
    let unserved = unserved(policy, rule, containers, Some(from))?;
    let (image, image_rule) = match image(from, asked)? {
        Some((image, rule)) => (Some(image), Some(rule)),
        None => (None, None),
    };
    let services = if from.serves() { services(from, asked)? } else { Vec::new() };
    let (job, _) = policy.job_of(rule);
    let container = make(from, image, services, job.isolation.no_new_privileges, place)?;
    Ok(Given { container: Some(container), image_rule, unserved })
}

/// The site's container for an account apart from any job, with an image by the rules for a job's, or with none.
///
/// # Errors
/// A denial for an image that the site does not allow, and for an account whose home directory cannot hold jobs.
pub fn apart(
    from: &ContainerPolicy,
    image: Option<&str>,
    no_new_privileges: bool,
    place: &Place<'_>,
) -> Result<Container, Refusal> {
    let asked = |name: &str| AskedImage { name: name.to_owned(), ..AskedImage::default() };
    let image = image.map(|name| one(from, &asked(name), false)).transpose()?;
    make(from, image.map(|(image, _)| image), Vec::new(), no_new_privileges, place)
}

fn make(
    from: &ContainerPolicy,
    image: Option<Image>,
    services: Vec<Service>,
    no_new_privileges: bool,
    place: &Place<'_>,
) -> Result<Container, Refusal> {
    let path = |template: &String| {
        account_path(template, place.account).ok_or_else(|| {
            let detail = format!(
                "[container.{}]: `{template}` with home directory {}",
                from.name,
                place.account.home.display()
            );
            Refusal::denied(Code::Home, "your home directory on this host cannot hold CI jobs", detail)
        })
    };
    let cache = match &from.cache {
        Some(template) => path(template)?,
        None => place.data_dir.join("images"),
    };
    let bind = |bind: &nunbird_policy::BindPolicy| {
        Ok(Bind {
            source: path(&bind.source)?,
            target: path(&bind.target)?,
            writable: bind.writable,
            optional: bind.optional,
        })
    };
    Ok(Container {
        name: from.name.clone(),
        engine: from.engine.clone(),
        program: from.program.clone(),
        image,
        runner_image: from.runner_image.as_deref().map(|name| of_site(from, name)).transpose()?,
        services,
        stages: from.stages.clone(),
        directory: place.data_dir.join("containers").join(place.decision_id),
        store: from.store.as_ref().map(path).transpose()?,
        cache,
        shared_cache: from.shared_cache.clone(),
        cache_bounds: from.cache_bounds,
        binds: from.binds.iter().map(bind).collect::<Result<_, Refusal>>()?,
        home: from.home,
        gpu: from.gpu,
        root: from.root,
        host_network: from.network == Network::Host,
        options: from.options.clone(),
        engine_environment: from.environment.clone(),
        no_new_privileges,
        pull_timeout: from.pull_timeout,
        service_timeout: from.service_timeout,
        service_required: from.service_required,
        service_logs: false,
        credential_helpers: CredentialHelpers {
            directories: from.credential_helpers.clone(),
            timeout: from.credential_helper_timeout,
        },
    })
}

/// What a job asks for and its container, if it has one, does not do.
fn unserved(
    policy: &Policy,
    rule: &Rule,
    asked: &Containers,
    container: Option<&ContainerPolicy>,
) -> Result<Option<Unserved>, Refusal> {
    let missing = Unserved {
        image: asked.image.clone().filter(|_| !container.is_some_and(ContainerPolicy::has_images)),
        services: asked.services.clone().filter(|_| !container.is_some_and(ContainerPolicy::serves)),
        steps: asked.steps && !container.is_some_and(ContainerPolicy::runs_steps),
    };
    let (job, _) = policy.job_of(rule);
    match job.images {
        _ if missing == Unserved::default() => Ok(None),
        Images::Ignore => Ok(None),
        Images::Warn => Ok(Some(missing)),
        Images::Refuse => {
            let message = format!("this site does not run {}", words(&missing));
            let Unserved { image, services, steps } = &missing;
            let detail = format!("image {image:?}, services {services:?}, steps {steps}");
            Err(Refusal::denied(Code::Images, message, detail)
                .help("remove them from the job in .gitlab-ci.yml, or choose another runner by `tags:`"))
        }
    }
}

fn words(missing: &Unserved) -> String {
    let parts = [
        missing.image.as_ref().map(|_| "an image (`image:`)"),
        missing.services.as_ref().map(|_| "services (`services:`)"),
        missing.steps.then_some("steps (`run:`)"),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn refused(from: &ContainerPolicy, message: String, detail: String, help: impl Into<String>) -> Refusal {
    Refusal::denied(Code::Images, message, format!("[container.{}] at {}: {detail}", from.name, from.place))
        .help(help.into())
}

/// The job's image or the site's, and what let it pass.
fn image(from: &ContainerPolicy, asked: &AskedContainers) -> Result<Option<(Image, String)>, Refusal> {
    if !from.has_images() {
        return Ok(None);
    }
    match (&asked.image, &from.default_image) {
        (Some(asked), _) => one(from, asked, false).map(Some),
        (None, Some(name)) => {
            let asked = AskedImage { name: name.clone(), ..AskedImage::default() };
            let (image, _) = one(from, &asked, false)?;
            Ok(Some((image, "default_image".to_owned())))
        }
        // An engine that the site describes may have no images.
        (None, None) if matches!(from.engine, nunbird_handover::Engine::Described(_)) => Ok(None),
        (None, None) => Err(refused(
            from,
            "this job names no image, and this site has none for such jobs".to_owned(),
            "no `image:`, and no default_image".to_owned(),
            "add `image:` to the job in .gitlab-ci.yml",
        )),
    }
}

/// An image of the job's, judged.
fn one(from: &ContainerPolicy, asked: &AskedImage, of_service: bool) -> Result<(Image, String), Refusal> {
    let shown = Untrusted(&asked.name);
    let what = if of_service { "service" } else { "image" };
    let name = ImageName::parse(&asked.name).map_err(|why| {
        let message = format!("the {what} `{shown}` of this job is no name of an image: {why}");
        refused(
            from,
            message,
            format!("{what} `{shown}`: {why}"),
            "correct the name in .gitlab-ci.yml; a variable in it may be unset",
        )
    })?;
    let image_rule = from.judge(&name, of_service).map_err(|why| {
        let message = format!("this site does not allow the {what} `{shown}`");
        refused(from, message, format!("`{shown}`, which is {}: {why}", name.full()), help(from, of_service))
    })?;
    if asked.entrypoint.is_some() && !from.user_entrypoint {
        let message = format!("this site does not let jobs replace the entrypoint of the {what} `{shown}`");
        let detail = "user_entrypoint is false".to_owned();
        return Err(refused(from, message, detail, "remove `entrypoint:` from it in .gitlab-ci.yml"));
    }
    let pull = pull_policies(from, asked, &shown)?;
    let image = Image {
        name: name.full().to_owned(),
        entrypoint: asked.entrypoint.clone(),
        user: asked.user.clone(),
        platform: asked.platform.clone(),
        pull,
        digest_required: from.digest_required,
    };
    Ok((image, image_rule))
}

/// An image that the site names for itself, whatever jobs may name.
fn of_site(from: &ContainerPolicy, name: &str) -> Result<Image, Refusal> {
    let parsed = ImageName::parse(name).map_err(|why| {
        let detail = format!("runner_image of [container.{}]: {why}", from.name);
        Refusal::system(
            Code::Executor,
            "the container of this job is not configured correctly on this host",
            detail,
        )
    })?;
    Ok(Image {
        name: parsed.full().to_owned(),
        entrypoint: Some(Vec::new()),
        user: None,
        platform: None,
        pull: from.pull_policies.clone(),
        digest_required: false,
    })
}

fn pull_policies(
    from: &ContainerPolicy,
    asked: &AskedImage,
    shown: &Untrusted<'_>,
) -> Result<Vec<PullPolicy>, Refusal> {
    let Some(other) = asked.pull.iter().find(|policy| !from.pull_policies.contains(policy)) else {
        return Ok(if asked.pull.is_empty() { from.pull_policies.clone() } else { asked.pull.clone() });
    };
    let allowed: Vec<&str> = from.pull_policies.iter().copied().map(pull_policy_name).collect();
    let message = format!("this site does not allow `pull_policy: {}`", pull_policy_name(*other));
    let detail = format!("`{shown}`: pull_policies has {}", allowed.join(", "));
    let help =
        format!("remove `pull_policy:` from the job in .gitlab-ci.yml, or write {}", allowed.join(" or "));
    Err(refused(from, message, detail, help))
}

/// What a user may name instead. Patterns that deny are not shown.
fn help(from: &ContainerPolicy, of_service: bool) -> String {
    let own = from.allowed_services.as_ref().filter(|_| of_service);
    let allowed = own.or(from.allowed_images.as_ref()).map_or(&[][..], Vec::as_slice);
    let digest = if from.digest_required { ", with its digest (`NAME@sha256:…`)" } else { "" };
    if allowed.is_empty() || allowed.len() > SHOWN {
        return format!(
            "name another image in .gitlab-ci.yml{digest}, or ask your site's admins which images are allowed"
        );
    }
    let patterns: Vec<String> = allowed.iter().map(|pattern| format!("`{pattern}`")).collect();
    format!("name an image in .gitlab-ci.yml{digest} that matches {}", patterns.join(" or "))
}

fn services(from: &ContainerPolicy, asked: &AskedContainers) -> Result<Vec<Service>, Refusal> {
    let (count, most) = (asked.services.len(), from.services_max);
    if u64::try_from(count).map_or(true, |count| count > most) {
        let message = format!("this job has {count} services, and {most} are the most on this site");
        return Err(refused(
            from,
            message,
            format!("services_max is {most}"),
            "remove some of them in .gitlab-ci.yml",
        ));
    }
    let service = |one: &AskedService| {
        let (image, _) = self::one(from, &one.image, true)?;
        Ok(Service {
            aliases: service_names(&one.image.name, &one.aliases),
            image,
            command: one.command.clone(),
            variables: variables(&asked.public, one),
            ports: ports(one),
        })
    };
    asked.services.iter().map(service).collect()
}

/// The job's public variables, under the service's own.
fn variables(public: &[String], service: &AskedService) -> BTreeMap<String, String> {
    let of_job = public.iter().map(|name| (name.clone(), format!("${{{name}}}")));
    let own = service.variables.iter().map(|one| {
        let value = if one.raw { one.value.replace('$', "$$") } else { one.value.clone() };
        (one.name.clone(), value)
    });
    of_job.chain(own).collect()
}

fn ports(service: &AskedService) -> Vec<u16> {
    let named = service.variables.iter().find(|variable| variable.name == HEALTHCHECK_PORT);
    let named = named.and_then(|variable| variable.value.parse().ok()).filter(|port| *port != 0);
    // It takes the place of all others there, too.
    named.map_or_else(|| service.ports.clone(), |port| vec![port])
}

#[cfg(test)]
mod tests;

//! The container that a job would get, for `explain`.

use nunbird_handover::{Bind, Image};
use nunbird_judge::containers::Given;
use nunbird_judge::site_credentials::is_for_sources;
use nunbird_policy::{ContainerPolicy, ImageName, Policy, Rule, Subject};
use serde_json::{Value, json};

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobContainer {
    name: String,
    engine: String,
    place: String,
    image: Option<String>,
    image_rule: Option<String>,
    runner_image: Option<String>,
    services: Vec<String>,
    binds: Vec<String>,
    /// Repositories of its images, with the NAME of the site's password for each, and whether the job's sources let it have that.
    credentials: Vec<(String, String, bool)>,
}

impl JobContainer {
    /// Of a job whose image and services are known.
    pub(crate) fn of(policy: &Policy, rule: &Rule, job: &Subject, given: &Given) -> Option<Self> {
        let container = given.container.as_ref()?;
        let bind = |bind: &Bind| {
            let mode = if bind.writable { "rw" } else { "ro" };
            format!("{}:{}:{mode}", bind.source.display(), bind.target.display())
        };
        let images = container.image.iter().chain(&container.runner_image);
        let images = images.chain(container.services.iter().map(|service| &service.image));
        let credential = |image: &Image| {
            let name = ImageName::parse(&image.name).ok()?;
            let repository = name.repository()?;
            let pulled = container.pulls() && image.may_be_pulled();
            let of = policy.credential_for(&job.server, &job.project_path, repository).filter(|_| pulled)?;
            Some((repository.to_owned(), of.name.clone(), is_for_sources(of, job.fork)))
        };
        let mut credentials: Vec<(String, String, bool)> = images.filter_map(credential).collect();
        credentials.sort();
        credentials.dedup();
        Some(JobContainer {
            credentials,
            image: container.image.as_ref().map(|image| image.name.clone()),
            image_rule: given.image_rule.clone(),
            runner_image: container.runner_image.as_ref().map(|image| image.name.clone()),
            services: container.services.iter().map(|service| service.image.name.clone()).collect(),
            binds: container.binds.iter().map(bind).collect(),
            ..Self::without_job(policy.container_of(rule)?)
        })
    }

    /// Of a job of which that is not known.
    pub(crate) fn without_job(container: &ContainerPolicy) -> Self {
        JobContainer {
            name: container.name.clone(),
            engine: container.engine_name(),
            place: container.place.to_string(),
            ..JobContainer::default()
        }
    }

    /// For people: rows of a name and a value.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("container", format!("{} ({}), at {}", self.name, self.engine, self.place))];
        if let Some(image) = &self.image {
            rows.push(("image", format!("{image}: {}", self.image_rule.as_deref().unwrap_or_default())));
        }
        if let Some(image) = &self.runner_image {
            rows.push(("runner image", format!("{image}: sources, caches and artifacts")));
        }
        for (repository, name, given) in &self.credentials {
            let what = match given {
                true => format!("the site's `{name}` for {repository}, unless the job brings its own"),
                false => format!(
                    "refused without one of the job's own: the site's `{name}` for {repository} is not for sources that may be a fork's"
                ),
            };
            rows.push(("password", what));
        }
        let all = [("services", &self.services), ("binds", &self.binds)];
        rows.extend(
            all.into_iter().filter(|(_, all)| !all.is_empty()).map(|(name, all)| (name, all.join(", "))),
        );
        rows
    }

    /// For programs. docs/nunbirdctl.md lists the fields.
    pub(crate) fn machine(&self) -> Value {
        let JobContainer {
            name,
            engine,
            place,
            image,
            image_rule,
            runner_image,
            services,
            binds,
            credentials,
        } = self;
        let credentials: Vec<Value> = credentials
            .iter()
            .map(|(repository, name, given)| {
                json!({ "repository": repository, "credential": name, "given": given })
            })
            .collect();
        json!({
            "name": name, "engine": engine, "place": place, "image": image, "image_rule": image_rule,
            "runner_image": runner_image, "services": services, "binds": binds, "credentials": credentials,
        })
    }
}

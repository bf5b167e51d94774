//! What the launcher is given for a job by hand: the account, the container and the scheduler.
//!
//! A site's configuration decides all this for jobs of GitLab's. Here the user does, with what any account may use: engines and
//! schedulers that are on the user's `PATH`, as the user.

use crate::failure::Failure;
use crate::job::{AskedImage, AskedService, Job};
use crate::variables::{Values, Variables};
use nix::unistd::{getgid, getuid};
use nunbird_accounts::users;
use nunbird_handover::{
    Account, Batch, CONTAINER_STAGES, CacheBounds, Container, CredentialHelpers, ENGINES, Engine, Image,
    PullPolicy, SCHEDULERS, Scheduler, Service, Untrusted, UserText,
};
use nunbird_policy::ImageName;
use nunbird_stage::small_files;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Variables by which schedulers' commands find their cluster.
const OF_SCHEDULERS: [&str; 16] = [
    "SLURM_CONF",
    "PBS_CONF_FILE",
    "PBS_SERVER",
    "PBS_DEFAULT",
    "LSF_ENVDIR",
    "LSF_SERVERDIR",
    "LSF_LIBDIR",
    "LSF_BINDIR",
    "FLUX_URI",
    "SGE_ROOT",
    "SGE_CELL",
    "SGE_CLUSTER_NAME",
    "SGE_QMASTER_PORT",
    "SGE_EXECD_PORT",
    "CONDOR_CONFIG",
    "MUNGE_SOCKET",
];
/// One of these is there in an allocation only.
const MARKS_OF_ALLOCATIONS: [&str; 6] =
    ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "COBALT_JOBID", "SGE_TASK_ID"];
/// Beginnings of names of the variables that a script in an allocation has, and whole names; as the launcher passes them into containers.
const OF_ALLOCATIONS: [&str; 18] = [
    "SLURM_",
    "SLURMD_",
    "PBS_",
    "LSB_",
    "FLUX_",
    "COBALT_",
    "SGE_",
    "_CONDOR_",
    "JOB_ID",
    "NSLOTS",
    "NHOSTS",
    "PE_HOSTFILE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
];
/// Variables of the user's that a job has as well; else its environment is as in CI.
const KEPT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The account of this process.
///
/// # Errors
/// For root, which runs no jobs, and for a uid that the user database does not know.
pub(crate) fn account() -> Result<Account, Failure> {
    let uid = getuid().as_raw();
    if uid == 0 {
        return Err(Failure::new("root runs no jobs").help("call it as an ordinary user"));
    }
    let entry = users::by_uid(uid).map_err(|e| Failure::new(format!("cannot ask the user database: {e}")))?;
    let entry = entry.ok_or_else(|| {
        Failure::new(format!("no account has the uid {uid}")).help("log in as an account of this host")
    })?;
    // Of the process: newgrp(1) may have chosen another primary group.
    Ok(Account { name: entry.name, uid, gid: getgid().as_raw(), home: entry.home, shell: entry.shell })
}

/// The job's environment beside its variables.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let mut all = kept(&KEPT);
    all.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    all
}

/// What the commands of schedulers find their cluster by.
pub(crate) fn scheduler_environment() -> BTreeMap<String, String> {
    kept(&OF_SCHEDULERS)
}

/// Where this process is in an allocation: what the scheduler's commands (`srun`) and programs find it by. As in CI, no secret is among it.
pub(crate) fn of_allocation() -> BTreeMap<String, String> {
    let is_in_one = MARKS_OF_ALLOCATIONS.iter().any(|mark| std::env::var_os(mark).is_some());
    let all = std::env::vars_os().filter(|_| is_in_one);
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_of_allocations(name))
        .collect()
}

fn is_of_allocations(name: &str) -> bool {
    let is_secret = ["_JWT", "_TOKEN", "_PASSWORD"].iter().any(|end| name.ends_with(end));
    let is_one = |known: &&str| if known.ends_with('_') { name.starts_with(*known) } else { name == *known };
    !is_secret && OF_ALLOCATIONS.iter().any(is_one)
}

fn kept(names: &[&str]) -> BTreeMap<String, String> {
    let value = |name: &&str| Some(((*name).to_owned(), std::env::var_os(name)?.into_string().ok()?));
    names.iter().filter_map(value).collect()
}

/// The directories of the jobs' `PATH`. A relative one would be another in each stage.
fn search_path() -> Vec<PathBuf> {
    let path = environment().remove("PATH").unwrap_or_default();
    std::env::split_paths(OsStr::new(&path)).filter(|directory| directory.is_absolute()).collect()
}

/// Where a program is, if it is on the `PATH` of jobs.
fn on_path(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|directory| directory.join(name)).find(|program| {
        let meta = program.metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// The same `PATH` for what the engine itself starts: that of a module of the site's.
fn engine_environment() -> BTreeMap<String, String> {
    let path = std::env::join_paths(search_path()).ok().and_then(|path| path.into_string().ok());
    path.map(|path| ("PATH".to_owned(), path)).into_iter().collect()
}

/// The program that stands for an engine.
fn program(engine: &str) -> &str {
    match engine {
        "charliecloud" => "ch-run",
        other => other,
    }
}

/// The user's choice of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerFlags<'a> {
    /// In place of the job's image.
    pub(crate) image: Option<&'a str>,
    /// One of `ENGINES`, or the path of a description.
    pub(crate) engine: Option<&'a str>,
    /// Whether the job's image and services are passed over.
    pub(crate) no_container: bool,
}

/// The job's container: none without an image and services.
///
/// # Errors
/// For an image without a valid name, and where no engine is there that can do it.
pub(crate) fn container(
    job: &Job,
    flags: ContainerFlags<'_>,
    data_dir: &Path,
    decision_id: &str,
) -> Result<Option<Container>, Failure> {
    let of_command_line = flags.image.map(|name| AskedImage {
        name: name.to_owned(),
        entrypoint: None,
        pull: Vec::new(),
        user: None,
        platform: None,
        place: None,
    });
    let asked = of_command_line.or_else(|| job.image.clone());
    if flags.no_container {
        return Ok(None);
    }
    let Some(asked) = asked else {
        return match job.services.first() {
            None => Ok(None),
            Some(service) => Err(at(Failure::new("the job has services and no image"), &service.image)
                .help("add `image:` to the job, or name one by --image")
                .help("--no-container runs the job without its services")),
        };
    };
    let services = !job.services.is_empty();
    let engine = engine(flags.engine, services, &asked)?;
    let service_of = |one: &AskedService| service(one, job);
    Ok(Some(Container {
        name: "by-hand".to_owned(),
        // The program that was found, not another one that the launcher's own path has.
        program: match &engine {
            Engine::Named(name) => on_path(program(name)),
            Engine::Described(_) => None,
        },
        engine,
        image: Some(image(&asked)?),
        runner_image: None,
        services: job.services.iter().map(service_of).collect::<Result<_, _>>()?,
        stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
        directory: data_dir.join("containers").join(decision_id),
        store: None,
        cache: data_dir.join("images"),
        shared_cache: None,
        cache_bounds: CacheBounds::default(),
        binds: Vec::new(),
        home: false,
        gpu: None,
        root: false,
        host_network: true,
        options: Vec::new(),
        engine_environment: engine_environment(),
        no_new_privileges: false,
        pull_timeout: 3600,
        service_timeout: 30,
        service_required: false,
        service_logs: job.values.get("CI_DEBUG_SERVICES") == Some("true"),
        credential_helpers: CredentialHelpers::default(),
    }))
}

fn at(failure: Failure, image: &AskedImage) -> Failure {
    match &image.place {
        Some(place) => failure.at(place),
        None => failure,
    }
}

/// The engine that the user names, or the first on the `PATH` that can do it.
fn engine(named: Option<&str>, services: bool, asked: &AskedImage) -> Result<Engine, Failure> {
    // A machine takes root to boot.
    let able = |engine: &&str| !["bwrap", "nspawn"].contains(engine) && (!services || *engine == "podman");
    match named {
        Some(path) if path.starts_with('/') => Ok(Engine::Described(PathBuf::from(path))),
        Some(name) if !ENGINES.contains(&name) => {
            Err(Failure::new(format!("no container engine is called `{}`", Untrusted(name)))
                .help(format!("known: {}; or the path of a description", ENGINES.join(", "))))
        }
        Some(name) if !able(&name) => {
            let what = match name {
                "bwrap" => "has no images",
                "nspawn" => "boots machines, which takes root",
                _ => "starts no services",
            };
            Err(at(Failure::new(format!("{name} {what}")), asked).help("use podman, or --no-container"))
        }
        Some(name) => Ok(Engine::Named(name.to_owned())),
        None => {
            let found = ENGINES.into_iter().filter(able).find(|engine| on_path(program(engine)).is_some());
            found.map(|engine| Engine::Named(engine.to_owned())).ok_or_else(|| {
                let which = if services {
                    "podman, which starts services, is"
                } else {
                    "none of podman, apptainer and charliecloud is"
                };
                at(
                    Failure::new(format!(
                        "the job has the image `{}`, and {which} on your PATH",
                        Untrusted(&asked.name)
                    )),
                    asked,
                )
                .help("load your site's module for containers")
                .help("--no-container runs the job with this host's software")
            })
        }
    }
}

fn image(asked: &AskedImage) -> Result<Image, Failure> {
    let name = ImageName::parse(&asked.name).map_err(|why| {
        at(Failure::new(format!("`{}` is no name of an image: {why}", Untrusted(&asked.name))), asked)
            .help("write `registry.example.org/path:tag`; a variable in it may be unset")
    })?;
    let pull = |word: &String| match word.as_str() {
        "always" => Ok(PullPolicy::Always),
        "if-not-present" => Ok(PullPolicy::IfNotPresent),
        "never" => Ok(PullPolicy::Never),
        other => Err(at(Failure::new(format!("there is no pull policy `{}`", Untrusted(other))), asked)
            .help("write always, if-not-present or never")),
    };
    let mut policies = asked.pull.iter().map(pull).collect::<Result<Vec<_>, _>>()?;
    if policies.is_empty() {
        // By hand a job is run many times, and without a network at times.
        policies = vec![PullPolicy::IfNotPresent];
    }
    Ok(Image {
        name: name.full().to_owned(),
        entrypoint: asked.entrypoint.clone(),
        user: asked.user.clone(),
        platform: asked.platform.clone(),
        pull: policies,
        digest_required: false,
    })
}

/// The variables of a service: those of the file, under its own.
pub(crate) fn service_variables(
    public: &[String],
    own: &Variables,
    values: &Values,
) -> BTreeMap<String, String> {
    let public = public.iter().map(|name| (name.clone(), values.get(name).unwrap_or_default().to_owned()));
    let own = own.iter().map(|(name, variable)| {
        let value = if variable.expand { values.expand(&variable.value) } else { variable.value.clone() };
        (name.to_owned(), value)
    });
    public.chain(own).collect()
}

fn service(asked: &AskedService, job: &Job) -> Result<Service, Failure> {
    let variables = service_variables(&job.public, &asked.variables, &job.values);
    let port =
        variables.get("HEALTHCHECK_TCP_PORT").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    Ok(Service {
        aliases: nunbird_policy::service_names(&asked.image.name, &asked.aliases),
        image: image(&asked.image)?,
        command: asked.command.clone(),
        ports: port.into_iter().collect(),
        variables,
    })
}

/// The digest of a container's image, once the container is prepared and where its engine tells it. The file is not the job's to write.
pub(crate) fn digest(container: &Container) -> Option<String> {
    #[derive(Deserialize)]
    struct Resolved {
        digest: Option<String>,
    }
    let text = small_files::beginning(&container.directory.join("image"), 64 << 10).ok()?;
    serde_json::from_slice::<Resolved>(&text).ok()?.digest
}

/// The scheduler of this name, or of a description's path.
///
/// # Errors
/// For an unknown name.
pub(crate) fn batch(
    job: &Job,
    name: &str,
    data_dir: &Path,
    decision_id: &str,
) -> Result<Option<Batch>, Failure> {
    let scheduler = match name {
        "shell" => return Ok(None),
        path if path.starts_with('/') => Scheduler::Described(PathBuf::from(path)),
        name => Scheduler::named(name).ok_or_else(|| {
            let known: Vec<&str> = SCHEDULERS.iter().map(|(first, _)| *first).collect();
            let help = format!("known: shell, {}; or the path of a description", known.join(", "));
            Failure::new(format!("no executor is called `{}`", Untrusted(name))).help(help)
        })?,
    };
    let of = |name: &str| job.values.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let arguments =
        of("SCHEDULER_PARAMETERS").map(|text| UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text });
    Ok(Some(Batch {
        arguments,
        environment: scheduler_environment(),
        job_prefix: of("SCHEDULER_JOB_PREFIX"),
        cancel_signal: of("SCHEDULER_SIGNAL"),
        copy_logs: of("COPY_SCHEDULER_LOGS"),
        // Somebody waits for it.
        poll_interval: 15,
        ..Batch::new(scheduler, data_dir.join("batch").join(decision_id))
    }))
}

#[cfg(test)]
mod tests {
    use super::is_of_allocations;

    #[test]
    fn a_prompt_in_an_allocation_has_the_schedulers_variables_and_no_secret_of_its() {
        for name in ["SLURM_JOB_ID", "PBS_NODEFILE", "JOB_ID", "CUDA_VISIBLE_DEVICES", "_CONDOR_SCRATCH_DIR"]
        {
            assert!(is_of_allocations(name), "{name}");
        }
        for name in
            ["SLURM_JWT", "PBS_TOKEN", "LSB_PASSWORD", "JOB_ID_OF_MINE", "SLURM", "LD_PRELOAD", "SBATCH_X"]
        {
            assert!(!is_of_allocations(name), "{name}");
        }
    }
}

//! The services of a job: their images, ports and names, before anything is started.
//!
//! A service is a server in a container of its own that has the network namespace of the job's
//! container: both reach it at 127.0.0.1, and nobody else on the host does. So all services of a job
//! share their ports, which is checked here.

use crate::description::{Description, Services};
use crate::resolved::Resolved;
use crate::save::SavedImage;
use crate::stage::write;
use crate::trouble::Failure;
use nunbird_handover::{Container, Service, Untrusted};
use nunbird_stage::words::is_name;
use nunbird_stage::{StageError, small_files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The longest list of images of services, in bytes.
const LONGEST: u64 = 1 << 20;

/// The image of a service, once it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceImage {
    pub(crate) image: Resolved,
    /// The TCP ports of which one shows that the service is ready.
    pub(crate) ports: Vec<u16>,
    /// The image as a file for compute nodes.
    pub(crate) saved: Option<SavedImage>,
}

/// How a service is called in messages, and in front of its output: its first name that can be one,
/// else its number.
pub(crate) fn label(service: &Service, number: usize) -> String {
    names(service).next().map_or_else(|| format!("number {}", number + 1), str::to_owned)
}

/// The names by which the job reaches it. Another text would be more than a name in a hosts file.
pub(crate) fn names(service: &Service) -> impl Iterator<Item = &str> {
    service.aliases.iter().map(String::as_str).filter(|name| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !name.is_empty() && name.len() <= 253 && !name.starts_with('-') && name.bytes().all(plain)
    })
}

/// Fails for a job with services in an engine that has none.
pub(crate) fn check(description: &Description, container: &Container) -> Result<(), Failure> {
    if container.services.is_empty() || description.services.is_some() {
        return Ok(());
    }
    let text = format!(
        "the job has `services:`, and {}, which [container.{}] uses, starts none: remove them from .gitlab-ci.yml, or start the servers in \
         the job's script",
        description.title,
        Untrusted(&container.name)
    );
    Err(Failure::Job(StageError::sentence(&text)))
}

/// A container with the image of a service in the place of the job's own, for what is asked about an
/// image.
pub(crate) fn alone(container: &Container, service: &Service, number: usize) -> Container {
    Container {
        image: Some(service.image.clone()),
        services: Vec::new(),
        directory: container.directory.join(format!("service-{number}")),
        ..container.clone()
    }
}

/// Says which service it is whose image failed.
pub(crate) fn of_service(failure: Failure, label: &str) -> Failure {
    let named =
        |error: &StageError| StageError::sentence(&format!("cannot start the service {label}: {error}"));
    match failure {
        Failure::Job(error) => Failure::Job(named(&error)),
        Failure::System(error) => Failure::System(named(&error)),
        Failure::Refused(error) => Failure::Refused(named(&error)),
        Failure::Cancelled => Failure::Cancelled,
    }
}

/// The ports of each service, where no two have the same.
///
/// # Errors
/// For the first two that do.
pub(crate) fn with_ports(
    services: &[Service],
    images: Vec<(Resolved, Option<SavedImage>)>,
) -> Result<Vec<ServiceImage>, Failure> {
    let mut owners: BTreeMap<u16, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, (service, (image, saved))) in services.iter().zip(images).enumerate() {
        let ports = if service.ports.is_empty() { image.ports.clone() } else { service.ports.clone() };
        for port in &ports {
            let earlier = *owners.entry(*port).or_insert(number);
            if let Some(other) = services.get(earlier).filter(|_| earlier != number) {
                let (one, two) = (label(other, earlier), label(service, number));
                let text = format!(
                    "the services {one} and {two} cannot both have port {port}: all services of a job share one network here; let one of them \
                     listen on another port, by its `command:` or its variables, and name that port in its variable HEALTHCHECK_TCP_PORT"
                );
                return Err(Failure::Job(StageError::sentence(&text)));
            }
        }
        found.push(ServiceImage { image, ports, saved });
    }
    Ok(found)
}

/// Notes the images for the job's later stages.
pub(crate) fn keep(container: &Container, images: &[ServiceImage]) -> Result<(), StageError> {
    write(&list(container), &serde_json::json!(images).to_string())
}

/// What was noted: as many as the job has services.
pub(crate) fn kept(container: &Container) -> Result<Vec<ServiceImage>, StageError> {
    if container.services.is_empty() {
        return Ok(Vec::new());
    }
    let images: Option<Vec<ServiceImage>> = small_files::beginning(&list(container), LONGEST)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    images.filter(|images| images.len() == container.services.len()).ok_or_else(|| {
        let cause = "the file `service-images` is missing or broken";
        let help = "run the job again; its prepare stage brings the images";
        StageError::at("cannot find the images of the job's services in", &container.directory, cause, help)
    })
}

fn list(container: &Container) -> PathBuf {
    container.directory.join("service-images")
}

/// Where the outer script notes that the job fails because of a service.
pub(crate) fn lost_path(container: &Container) -> PathBuf {
    container.directory.join("service-lost")
}

/// Whether the stage with this nonce has failed because of a service.
pub(crate) fn is_lost(container: &Container, nonce: &str) -> bool {
    let text = small_files::beginning(&lost_path(container), 256).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end() == format!("end {nonce}")
}

/// The directory with the variables of services, until they are started.
pub(crate) fn variables_directory(container: &Container) -> PathBuf {
    container.directory.join("service-variables")
}

/// The file with those variables of a service that a line can have.
pub(crate) fn variables_path(container: &Container, number: usize) -> PathBuf {
    variables_directory(container).join(number.to_string())
}

/// The values that no line of such a file can have, each once, with the path of its own file.
pub(crate) fn odd_values(container: &Container) -> Vec<(&str, PathBuf)> {
    let mut values: Vec<&str> = Vec::new();
    for (_, value) in container.services.iter().flat_map(variables).filter(|(_, value)| is_odd(value)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let directory = variables_directory(container);
    values.into_iter().enumerate().map(|(n, value)| (value, directory.join(format!("value-{n}")))).collect()
}

/// The variables of a service that a process can have.
pub(crate) fn variables(service: &Service) -> impl Iterator<Item = (&str, &str)> {
    let all = service.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    all.filter(|(name, value)| is_name(name.as_bytes()) && !value.contains('\0'))
}

/// Whether a line `NAME=VALUE` may mean something else than this value: Podman has read quotes and
/// backslashes in such lines from version 4.4 to 4.6, and ends a line that is longer.
pub(crate) fn is_odd(value: &str) -> bool {
    value.len() > 32 << 10
        || value.trim() != value
        || value.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '`' | '\\' | '#'))
}

/// Writes the variables of all services, which the outer script removes when it has started them.
pub(crate) fn write_variables(container: &Container, services: Option<&Services>) -> Result<(), StageError> {
    if services.is_none() || container.services.is_empty() {
        return Ok(());
    }
    let directory = variables_directory(container);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|e| {
        let help = "make sure that its file system has space and quota left, and run the job again";
        StageError::at("cannot make", &directory, e, help)
    })?;
    for (number, service) in container.services.iter().enumerate() {
        let line = |(name, value): (&str, &str)| format!("{name}={value}\n");
        let text: String = variables(service).filter(|(_, value)| !is_odd(value)).map(line).collect();
        write(&variables_path(container, number), &text)?;
    }
    odd_values(container).into_iter().try_for_each(|(value, path)| write(&path, value))
}

/// Removes what an earlier stage has left, for whatever reason.
pub(crate) fn forget_variables(path: &Path) {
    drop(fs::remove_dir_all(path));
}

#[cfg(test)]
mod tests {
    use super::{check, is_odd, label, names, odd_values, of_service, variables, with_ports};
    use crate::description::{BUILT_IN, Description, podman};
    use crate::resolved::Resolved;
    use crate::testing::container;
    use crate::trouble::Failure;
    use nunbird_handover::{Container, Service};
    use nunbird_stage::StageError;
    use std::collections::BTreeMap;

    fn service(aliases: &[&str], ports: &[u16]) -> Service {
        Service {
            image: container().image.expect("an image"),
            aliases: aliases.iter().map(|name| (*name).to_owned()).collect(),
            command: None,
            variables: BTreeMap::new(),
            ports: ports.to_vec(),
        }
    }

    fn image(ports: &[u16]) -> Resolved {
        Resolved { ports: ports.to_vec(), ..Resolved::new("a".to_owned(), "a".to_owned()) }
    }

    #[test]
    fn only_what_is_a_name_gets_into_the_hosts_file_and_in_front_of_a_line() {
        let one = service(&["a b", "x\n10.0.0.1 evil", "", "-n", "'", "db", "r.example.org__a_1"], &[]);
        assert_eq!(names(&one).collect::<Vec<_>>(), ["db", "r.example.org__a_1"]);
        assert_eq!((label(&one, 0).as_str(), label(&service(&["é"], &[]), 1).as_str()), ("db", "number 2"));
    }

    #[test]
    fn declared_ports_count_before_those_of_the_image_and_one_port_has_one_service() {
        let services = [service(&["a"], &[]), service(&["b"], &[81]), service(&["c"], &[])];
        let images =
            |third: &[u16]| [&[80, 443], &[80][..], third].map(|ports| (image(ports), None)).to_vec();
        let found = with_ports(&services, images(&[])).expect("no two on one port");
        assert_eq!(
            found.iter().map(|one| one.ports.clone()).collect::<Vec<_>>(),
            [vec![80, 443], vec![81], vec![]]
        );
        let failure = with_ports(&services, images(&[443])).expect_err("two on one port");
        let Failure::Job(error) = failure else { panic!("{failure:?}") };
        assert!(error.to_string().contains("the services a and c cannot both have port 443"), "{error}");
        let twice = [service(&["a"], &[80, 80])];
        assert!(with_ports(&twice, vec![(image(&[]), None)]).is_ok(), "of one service");
    }

    #[test]
    fn values_that_a_line_cannot_have_are_found_once() {
        for odd in ["a\nb", "a\r", " a", "a\t", "\"a\"", "it's", "a#b", "\\", "`id`", &"x".repeat(40_000)] {
            assert!(is_odd(odd), "{odd}");
        }
        for plain in ["", "a b", "a=b", "$HOME", "*", "ü", "--x", "{uid}"] {
            assert!(!is_odd(plain), "{plain}");
        }
        let mut container = container();
        let mut one = service(&["a"], &[]);
        for (name, value) in
            [("A", "1\n"), ("B", "1\n"), ("C", "2\n"), ("D", "plain"), ("E F", "3\n"), ("G", "\0\n")]
        {
            one.variables.insert(name.to_owned(), value.to_owned());
        }
        assert_eq!(variables(&one).map(|(name, _)| name).collect::<String>(), "ABCD");
        container.services = vec![one.clone(), one];
        let values: Vec<&str> = odd_values(&container).into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, ["1\n", "2\n"]);
    }

    #[test]
    fn services_need_an_engine_that_starts_them() {
        let with = Container { services: vec![service(&["a"], &[])], ..container() };
        assert!(check(&podman(), &with).is_ok());
        let text = BUILT_IN[0].1;
        let (before, rest) = text.split_once("[services]").expect("a section");
        let (_, after) = rest.split_once("[namespace]").expect("a section");
        let without = Description::parse(&format!("{before}[namespace]{after}")).expect("a description");
        assert!(matches!(check(&without, &with), Err(Failure::Job(_))));
        assert!(check(&without, &container()).is_ok());
    }

    #[test]
    fn whose_fault_an_image_is_stays() {
        let error = || StageError::sentence("cannot");
        let job = of_service(Failure::Job(error()), "db");
        let Failure::Job(text) = job else { panic!("{job:?}") };
        assert_eq!(text.to_string(), "cannot start the service db: cannot");
        assert!(matches!(of_service(Failure::System(error()), "db"), Failure::System(_)));
        assert!(matches!(of_service(Failure::Cancelled, "db"), Failure::Cancelled));
    }
}

//! A registry that refuses a job the image, by its password or without one: the copy that is here is refused to the job as well, whatever
//! the pull policies after it. A registry that is only out of order is another matter.

use crate::WITH_PODMAN;
use crate::cases::{Bed, Setup, out, succeeded};
use nunbird_handover::{Credential, Credentials, PullPolicy};
use nunbird_tests::containers::{Fault, Job, On, PASSWORD, USER, samples};
use nunbird_tests::needs;

/// A job that would take the copy where its pull does not succeed.
fn with_all_policies<'b>(bed: &'b Bed, password: &str, site: Option<&str>) -> Job<'b> {
    let mut job = bed.job();
    job.image().pull = vec![PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never];
    // Some engines try again for half a minute.
    job.container().pull_timeout = 120;
    job.handover.credentials = Credentials(vec![Credential {
        // A password of the site's is for one repository.
        registry: site.map_or(bed.registry.host(), |_| bed.registry.name("lattice/tools")),
        user: USER.to_owned(),
        password: password.to_owned(),
        site: site.map(str::to_owned),
    }]);
    job
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_refused_password_ends_the_list_of_pull_policies_though_a_copy_is_here(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    succeeded(&bed.prepared().cleanup());
    let front = bed.registry.front();
    // A wrong password, and a right one that may not read this image.
    for (password, fault) in [("wrong", None), (PASSWORD, Some(401)), (PASSWORD, Some(403))] {
        for (site, status, said) in [
            (None, 110, "refuses the job's user name and password"),
            (Some("licensed"), 120, "refuses the site's password [credential.licensed]"),
        ] {
            let when = format!("{fault:?}, {site:?}");
            front.heal();
            if let Some(code) = fault {
                front.fail(On::Manifests, Fault::Status(code));
            }
            let job = with_all_policies(&bed, password, site);
            let ended = job.prepare();
            assert_eq!(ended.status, Some(status), "{when}: {}\n{}", out(&ended), ended.err);
            assert!(ended.err.contains(said), "{when}: {}", ended.err);
            let log = out(&ended) + &ended.err;
            assert!(!log.contains("trying the next pull policy") && !log.contains(PASSWORD), "{when}: {log}");
            succeeded(&job.cleanup());
        }
    }
    // The copy was there all the time.
    front.fail(On::Everything, Fault::Status(503));
    let job = with_all_policies(&bed, PASSWORD, Some("licensed"));
    let ended = job.prepare();
    let log = out(&ended) + &ended.err;
    succeeded(&ended);
    assert!(log.contains("trying the next pull policy"), "{log}");
    assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
    succeeded(&job.cleanup());
}

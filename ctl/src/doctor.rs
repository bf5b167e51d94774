//! Everything that keeps jobs from running, or makes them run otherwise than the site means, on this host now.

use crate::arguments::Doctor;
use crate::output::{Format, Trouble};
use crate::{check, files, host_facts, machine, runner_config};

pub(crate) fn run(options: &Doctor, format: Format) -> Result<u8, Trouble> {
    let policy = files::read(&options.configuration.configuration, format)?.policy;
    let runner = &options.runner.runner_user;
    let mut findings = check::of_policy(&policy);
    host_facts::look(&policy, runner, &mut findings);
    runner_config::look(&policy, &options.runner_config, &mut findings);
    machine::look(&policy, &mut findings);
    check::report(&policy, runner, &findings, options.strict, format)
}

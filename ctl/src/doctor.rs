//! Everything on this host that prevents jobs from running, or makes them run differently than the
//! site intends.

use crate::arguments::Doctor;
use crate::output::{CtlError, Format};
use crate::{
    check, files, host, host_facts, jacamar_facts, machine, runner_config, runner_processes, runner_unit,
    systemd,
};

pub(crate) fn run(options: &Doctor, format: Format) -> Result<u8, CtlError> {
    let reading = files::read(&options.configuration.configuration, format)?;
    let runner = &options.runner.runner_user;
    let mut findings = check::of_policy(&reading.policy);
    findings.extend(check::lost_keys(&reading));
    let policy = reading.policy;
    host_facts::inspect(&policy, runner, &mut findings);
    let service = runner_config::inspect(&policy, &options.runner_config, &mut findings);
    machine::inspect(&policy, &mut findings);
    jacamar_facts::inspect(&options.runner_config, &mut findings);
    if systemd::is_booted() {
        let running = || runner_processes::unit(&runner_processes::of(host::runner(&policy, runner)));
        let unit = options.unit.clone().or_else(running);
        runner_unit::inspect(
            &policy,
            unit.as_deref().unwrap_or(runner_unit::DEFAULT),
            service,
            &mut findings,
        );
    }
    check::report(&policy, runner, &findings, options.strict, format)
}

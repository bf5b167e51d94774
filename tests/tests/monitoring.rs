//! What Prometheus reads of a real job, by Prometheus's own tool.

use nunbird_tests::needs;
use nunbird_tests::tree::program_of;
use nunbird_tests::world::{Privilege, World};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What promtool(1) prints of a text on its standard input, and whether it accepts it.
fn promtool(arguments: &[&str], input: &Path) -> (bool, String) {
    let program = program_of("prometheus", "usr/bin/promtool");
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::from(fs::File::open(input).expect("a file"))).output();
    let output = output.expect("promtool");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[needs(root)]
fn prometheus_reads_the_counters_of_a_real_job() {
    let world = World::new(Privilege::RootRunner);
    assert!(world.refresh_keys().succeeded(), "keys");
    world.job().script("id").run().expect_success();
    world.job().id(7002).script("exit 3").run();
    assert!(!world.job().id(7003).without_token().config().succeeded());
    let written = world
        .shell("root", "/opt/nunbird/bin/nunbirdctl metrics --output /var/lib/nunbird/metrics/nunbird.prom");
    assert!(written.succeeded(), "{written:?}");
    let file = world.host_path("/var/lib/nunbird/metrics/nunbird.prom");
    let text = fs::read_to_string(&file).expect("a file");
    for line in [
        "nunbird_jobs_admitted_total{rule=\"users as themselves\",executor=\"shell\"} 2",
        "nunbird_refusals_total{code=\"no-token\",stage=\"config\",class=\"denial\"} 1",
        "nunbird_stages_ended_total{stage=\"cleanup\",result=\"ok\"} 2",
        "nunbird_stages_ended_total{stage=\"run\",result=\"failed\"} 1",
        "nunbird_job_seconds_count{executor=\"shell\"} 2",
        "nunbird_jobs 0",
        "nunbird_configuration_valid{configuration=\"/etc/nunbird/config.toml\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        text.contains("nunbird_keys_age_seconds{configuration=\"/etc/nunbird/config.toml\",server=\""),
        "{text}"
    );
    let (accepted, words) = promtool(&["check", "metrics"], &file);
    assert!(accepted && words.trim().is_empty(), "{words}\n{text}");
    // Root does not write where another account could have put a link.
    let refused = world.shell(
        "root",
        "install -d -o alice /srv/hers; /opt/nunbird/bin/nunbirdctl metrics --output /srv/hers/nunbird.prom",
    );
    assert!(!refused.succeeded() && refused.stderr.contains("/srv/hers"), "{refused:?}");
    assert!(!world.host_path("/srv/hers/nunbird.prom").exists());
    // It does notice: a counter without `_total`.
    fs::write(&file, "# HELP a A.\n# TYPE a counter\na 1\n").expect("a file");
    assert!(!promtool(&["check", "metrics"], &file).0);
}

#[needs(root)]
fn prometheus_reads_the_example_alerts_which_name_series_that_there_are() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let alerts = tree.join("packaging/monitoring/alerts.yml");
    let (accepted, words) =
        promtool(&["check", "rules", alerts.to_str().expect("UTF-8")], Path::new("/dev/null"));
    assert!(accepted, "{words}");
    let documented = fs::read_to_string(tree.join("docs/monitoring.md")).expect("a page");
    for file in ["packaging/monitoring/alerts.yml", "packaging/monitoring/dashboard.json"] {
        let text = fs::read_to_string(tree.join(file)).expect("a file");
        let names = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("nunbird_"));
        let mut count = 0;
        for name in names {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(documented.contains(&format!("| `{family}` |")), "{file} names {name}");
            count += 1;
        }
        assert!(count > 5, "{file}");
    }
}

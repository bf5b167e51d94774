//! The job response as gitlab-runner writes it to `JOB_RESPONSE_FILE`.

use super::{RunnerVersion, Variable};
use crate::issuer::JobFacts;
use serde_json::{Value, json};

/// The response of a job. `steps` are pairs of a step's name and its lines.
pub(super) fn response(
    facts: &JobFacts,
    version: RunnerVersion,
    repository: &str,
    job_token: &str,
    variables: &[Variable],
    steps: &[(&str, &[String])],
) -> Value {
    let name = facts.project_path.rsplit('/').next().unwrap_or_default();
    let mut info = json!({
        "name": "lattice run",
        "stage": "test",
        "project_id": facts.project_id,
        "project_name": name,
        "time_in_queue_seconds": 1,
        "project_jobs_running_on_instance_runners_count": "+Inf",
    });
    if version.sends_user_id() {
        info["user_id"] = json!(facts.user_id);
        info["project_full_path"] = json!(facts.project_path);
        info["namespace_id"] = json!(facts.namespace_id);
    }
    if version.sends_pipeline_id() {
        info["pipeline_id"] = json!(facts.pipeline_id);
    }
    let steps: Vec<Value> = steps
        .iter()
        .map(|(name, lines)| {
            json!({ "name": name, "script": lines, "timeout": facts.timeout, "when": "on_success",
                    "allow_failure": *name == "after_script" })
        })
        .collect();
    let folder = if facts.ref_type == "tag" { "tags" } else { "heads" };
    json!({
        "id": facts.job_id,
        "token": job_token,
        "allow_git_fetch": false,
        "job_info": info,
        "git_info": {
            "repo_url": repository,
            "repo_object_format": "sha1",
            "ref": facts.git_ref,
            "sha": facts.sha,
            "before_sha": "0000000000000000000000000000000000000000",
            "ref_type": facts.ref_type,
            "refspecs": [format!("+refs/{folder}/{0}:refs/remotes/origin/{0}", facts.git_ref)],
            "depth": 20,
            "protected": facts.ref_protected,
        },
        "runner_info": { "timeout": facts.timeout },
        "inputs": null,
        "variables": variables.iter().map(Variable::json).collect::<Vec<_>>(),
        "steps": steps,
        "image": { "name": "" },
        "services": null,
        "artifacts": null,
        "cache": [],
        "credentials": [{ "type": "registry", "url": "registry.example.org", "username": "gitlab-ci-token",
                          "password": job_token }],
        "dependencies": [],
        "features": { "trace_sections": true, "token_mask_prefixes": ["glpat-"], "failure_reasons": ["unknown_failure"] },
        "policy_options": {},
    })
}

/// The bytes of the file: what Go's encoder writes, with `<`, `>` and `&` escaped and a newline at the end.
pub(super) fn bytes(response: &Value) -> Vec<u8> {
    let text = response.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    (text + "\n").into_bytes()
}

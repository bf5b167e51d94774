//! A past decision, found by its id in the audit file and its rotated files.

use crate::audit_files;
use crate::output::CtlError;
use crate::replay;
use nunbird_handover::Untrusted;
use nunbird_policy::{DEFAULT_AUDIT_FILE, Policy};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// The most ids that are listed if several begin alike.
const MAX_IDS: usize = 10;

/// One decision and its result.
#[derive(Debug)]
pub(crate) struct PastDecision {
    /// Of `config`: admitted or denied.
    decision: Map<String, Value>,
    /// Refusals of the job's later stages.
    later: Vec<Map<String, Value>>,
}

/// Finds the decision whose id begins with this text.
///
/// # Errors
/// If there is none, with the other places where its trace may be; if there are several; if a file
/// cannot be read.
pub(crate) fn find(id: &str, log: Option<&Path>, policy: &Policy) -> Result<PastDecision, CtlError> {
    let file = log.or(policy.audit.file.as_deref()).unwrap_or(Path::new(DEFAULT_AUDIT_FILE));
    let id = id.trim().to_ascii_lowercase();
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(CtlError::new(format!("`{}` is not a decision id: hexadecimal digits", Untrusted(&id))));
    }
    let all = audit_files::find(file)?;
    let (mut decisions, mut later, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    for one in &all.files {
        replay::events(one, |_, event| {
            let text = |name: &str| event.get(name).and_then(Value::as_str);
            let Some(found) = text("decision_id").filter(|found| found.starts_with(&id)) else {
                return Ok(());
            };
            ids.insert(found.to_owned());
            match (text("stage"), text("outcome")) {
                (Some("config"), Some("admitted" | "denied")) => decisions.push(event),
                (_, Some("denied")) => later.push(event),
                _ => {}
            }
            Ok(())
        })?;
    }
    if ids.len() > 1 {
        let some: Vec<&str> = ids.iter().take(MAX_IDS).map(String::as_str).collect();
        return Err(CtlError::new(format!("{} decisions begin with {id}: {}", ids.len(), some.join(", "))));
    }
    match decisions.pop() {
        Some(decision) => Ok(PastDecision { decision, later }),
        None if !later.is_empty() => Err(CtlError::new(format!(
            "{}: refusals of later stages, but not the decision of `config`, which is in an older \
             file\nnunbirdctl audit --decision {id} shows them",
            file.display()
        ))),
        None => Err(CtlError::new(elsewhere(&id, file, &all.unread, policy))),
    }
}

/// Other places where the trace of a decision may be.
fn elsewhere(id: &str, file: &Path, unread: &[std::path::PathBuf], policy: &Policy) -> String {
    let mut lines =
        vec![format!("{}: no decision {id}, nor in its rotated files; look also", file.display())];
    lines.extend(unread.iter().map(|path| format!("in {}, whose compression is not gzip", path.display())));
    lines.push("on the other hosts that run jobs: each has its own audit file".to_owned());
    if policy.audit.journald {
        lines.push(format!(
            "in the journal: journalctl SYSLOG_IDENTIFIER=nunbird-auth NUNBIRD_DECISION_ID={id}"
        ));
    }
    if policy.audit.syslog.is_some() {
        lines.push("in syslog, facility authpriv, message `@cee:`".to_owned());
    }
    lines.push(
        "in the job log for its code: [privilege], [process], [configuration-file] and [audit] \
         may leave nothing in this file; nunbirdctl doctor finds their cause"
            .to_owned(),
    );
    lines.push(
        "in the audit file of another configuration, if gitlab-runner names one (--configuration, --log)"
            .to_owned(),
    );
    lines.join("\n")
}

impl PastDecision {
    fn text_of<'e>(&'e self, name: &str) -> Option<&'e str> {
        self.decision.get(name).and_then(Value::as_str)
    }

    /// The job's facts at that time; `None` if the identity was not known.
    pub(crate) fn claims(&self) -> Option<Map<String, Value>> {
        // `validated` was the program's answer and not a fact of the job.
        let mut claims = self.decision.clone();
        claims.remove("validated");
        claims.contains_key("user_login").then_some(claims)
    }

    /// The answer of the site's program at that time.
    pub(crate) fn validated(&self) -> Option<String> {
        self.text_of("validated").map(str::to_owned)
    }

    /// Whether the policy was another one; `None` if the event does not contain it.
    fn has_changed(&self, digest: &str) -> Option<bool> {
        self.text_of("policy_digest").map(|then| then != digest)
    }

    /// The decision at that time, for humans. `digest` belongs to today's policy.
    pub(crate) fn text(&self, digest: &str) -> String {
        let shown = |name: &str| match self.decision.get(name) {
            Some(Value::String(text)) => Untrusted(text).to_string(),
            Some(other) => Untrusted(&other.to_string()).to_string(),
            None => "?".to_owned(),
        };
        let mut text =
            format!("decision {} at {} on {}\n", shown("decision_id"), shown("timestamp"), shown("host"));
        if self.decision.contains_key("user_login") {
            text.push_str(&format!(
                "  job {} of {} by {} (GitLab user {}), server {}\n",
                shown("job_id"),
                shown("project_path"),
                shown("user_login"),
                shown("user_id"),
                shown("server")
            ));
        }
        match self.text_of("outcome") {
            Some("admitted") => {
                text.push_str(&format!("  then: admitted as {}{}\n", shown("account"), self.rule()));
            }
            _ => {
                text.push_str(&format!(
                    "  then: denied [{}] in stage {}{}\n",
                    shown("code"),
                    shown("stage"),
                    self.rule()
                ));
                for line in self.text_of("detail").unwrap_or_default().lines() {
                    text.push_str(&format!("      {}\n", Untrusted(line)));
                }
            }
        }
        for event in &self.later {
            let field =
                |name: &str| Untrusted(event.get(name).and_then(Value::as_str).unwrap_or("?")).to_string();
            text.push_str(&format!(
                "  later: {} denied in stage {} [{}]\n",
                field("timestamp"),
                field("stage"),
                field("code")
            ));
            for line in event.get("detail").and_then(Value::as_str).unwrap_or_default().lines() {
                text.push_str(&format!("      {}\n", Untrusted(line)));
            }
        }
        text.push_str(match self.has_changed(digest) {
            Some(false) => "  the policy is the same today\n",
            Some(true) => "  the policy has CHANGED since\n",
            None => "  the event does not contain the policy's digest\n",
        });
        text + "\nby today's policy:\n"
    }

    fn rule(&self) -> String {
        let Some(rule) = self.decision.get("rule") else { return String::new() };
        let name = rule.get("name").and_then(Value::as_str).unwrap_or("?");
        let file = rule.get("file").and_then(Value::as_str).unwrap_or("?");
        let line = rule.get("line").and_then(Value::as_u64).unwrap_or(0);
        format!(" by rule `{}` at {}:{line}", Untrusted(name), Untrusted(file))
    }

    /// The same for programs.
    pub(crate) fn machine(&self, digest: &str) -> Value {
        json!({
            "event": self.decision,
            "later": self.later,
            "policy_changed": self.has_changed(digest),
            "policy_digest": digest,
        })
    }
}

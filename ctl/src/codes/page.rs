//! docs/codes.md.

use super::entry::{Class, Reader};
use super::{pasteable, table};
use nunbird_handover::Code;

const INTRODUCTION: &str = "\
# Codes of refusals

`make manual` writes this page from the table in the source; `nunbirdctl explain CODE` prints one entry.

A refusal in the job log ends with its code in brackets; the audit event has it in `code`.

```
nunbird: error: the job has no id token [no-token]
  = help: …
  = decision: 7f3a9c…
```

A *denial* ends with gitlab-runner's build-failure status (`BUILD_FAILURE_EXIT_CODE`, 1): the job failed, and GitLab does not run it again by itself
(`retry: when: script_failure`). A *system failure* ends with its system-failure status (`SYSTEM_FAILURE_EXIT_CODE`, 2): `retry: when:
runner_system_failure` runs the job again. A script that fails has no code: GitLab shows its own exit status, and the lines above it say how a batch job ended
(the words are in [audit.md](audit.md), field `batch`).

";

/// The whole page.
pub(super) fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let sections: [(&str, &[Reader]); 2] = [
        ("Refusals that a CI user can act on", &[Reader::User, Reader::Both]),
        ("Refusals that only an admin can act on", &[Reader::Admin]),
    ];
    for (title, readers) in sections {
        page.push_str(&format!(
            "## {title}\n\n| code | kind | meaning | the CI user | the admin |\n|---|---|---|---|---|\n"
        ));
        for code in Code::ALL {
            let entry = table::entry(*code);
            if readers.contains(&entry.reader) {
                let kind = match entry.class {
                    Class::Denial => "denial",
                    Class::System => "system failure",
                    Class::Either => "either",
                };
                let [meaning, user, admin] = [entry.meaning, entry.user, entry.admin].map(pasteable);
                page.push_str(&format!("| `{code}` | {kind} | {meaning} | {user} | {admin} |\n"));
            }
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

//! The calls to PAM, in order, and what of their results a job gets.

use crate::trouble::{SessionTrouble, Trouble};
use crate::variables::passes;
use crate::voice::Voice;
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_messages::{Pam, Untrusted};
use nunbird_pam::{Error, Handle, Item};
use nunbird_sys::rlimits::Limits;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;

/// Where Linux-PAM looks for services (pam.conf(5)), the site's directory first.
const SERVICES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    handle: Handle,
    voice: Voice,
}

impl Session {
    /// Has PAM judge the account, and opens a session for it.
    ///
    /// `limits` come into force before the session is opened, so that modules change those that the job would have.
    pub(crate) fn open(pam: &Pam, user: &str, limits: &Limits, voice: &Voice) -> Result<Self, Trouble> {
        let failed = |e: &dyn std::fmt::Display| (SessionTrouble::Failed, e.to_string());
        service_exists(&pam.service).map_err(|e| failed(&e))?;
        let service = CString::new(pam.service.as_str()).map_err(|e| failed(&e))?;
        let name = CString::new(user).map_err(|e| failed(&e))?;
        let listener = voice.clone();
        let start = Handle::start(&service, &name, move |heard| listener.pass(&heard));
        let mut handle = start.map_err(|e| failed(&e))?;
        for item in [Item::RemoteUser, Item::RemoteHost, Item::Terminal] {
            handle.set(item, c"").map_err(|e| failed(&e))?;
        }
        handle.account().map_err(|e| {
            (if e.is_denial() { SessionTrouble::Account } else { SessionTrouble::Failed }, e.to_string())
        })?;
        same_user(&mut handle, &name)?;
        handle.establish_credentials().map_err(|e| failed(&e))?;
        let opened = same_user(&mut handle, &name)
            .and_then(|()| limits.restore().map_err(|e| failed(&format_args!("setrlimit: {e}"))))
            .and_then(|()| handle.open_session().map_err(|e| failed(&e)));
        let mut session = Session { handle, voice: voice.clone() };
        if let Err(trouble) = opened {
            session.end(false);
            return Err(trouble);
        }
        if let Err(trouble) = same_user(&mut session.handle, &name) {
            session.end(true);
            return Err(trouble);
        }
        Ok(session)
    }

    /// The variables that the site lets pass.
    pub(crate) fn variables(&mut self, pam: &Pam) -> Vec<(String, String)> {
        let mut passed = BTreeMap::new();
        for variable in self.handle.environment() {
            let text = variable.to_string_lossy();
            let Some((name, value)) = text.split_once('=').filter(|(name, _)| passes(pam, name)) else {
                continue;
            };
            if variable.to_str().is_err() {
                let name = Untrusted(name);
                self.voice.say(&format!("nunbird: pam: variable {name} is not UTF-8 and is left out\n"));
                continue;
            }
            passed.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        passed.into_iter().collect()
    }

    /// Closes the session and ends its credentials. What fails is reported, and makes the answer `false`: the stage is over.
    pub(crate) fn close(mut self) -> bool {
        self.end(true)
    }

    fn end(&mut self, opened: bool) -> bool {
        let closed = if opened { self.handle.close_session() } else { Ok(()) };
        let results = [closed, self.handle.delete_credentials()];
        let whole = results.iter().all(Result::is_ok);
        for result in results {
            if let Err(e) = result {
                let e = e.to_string();
                self.voice.say(&format!("nunbird: warning: PAM session not closed: {}\n", Untrusted(&e)));
            }
        }
        whole
    }
}

/// Without its own file PAM would take the one for `other`, which decides for programs that have no file of their own.
fn service_exists(service: &str) -> Result<(), String> {
    let mut last = String::new();
    for directory in SERVICES {
        match open_trusted(&Path::new(directory).join(service), &[0]) {
            Ok(_) => return Ok(()),
            Err(Distrust::Open(_, e)) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => last = e.to_string(),
        }
    }
    if last.is_empty() { Err(format!("there is no /etc/pam.d/{service}")) } else { Err(last) }
}

/// A module may change the user (pam_start(3)); the job's account has been decided.
fn same_user(handle: &mut Handle, user: &CStr) -> Result<(), Trouble> {
    let now = handle.user().map_err(|e: Error| (SessionTrouble::Failed, e.to_string()))?;
    if now.as_c_str() == user {
        return Ok(());
    }
    let detail = format!("a module made `{}` of `{}`", now.to_string_lossy(), user.to_string_lossy());
    Err((SessionTrouble::User, detail))
}

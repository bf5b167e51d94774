//! Options about a GitLab server that several commands have.

use crate::output::CtlError;
use clap::Args;
use nunbird_handover::Untrusted;
use nunbird_policy::check_proxy;
use std::path::PathBuf;

/// How the GitLab server of a file of Jacamar CI's is reached, which that file cannot say.
#[derive(Args)]
pub(crate) struct ServerProxy {
    /// The forward proxy by which the GitLab server is reached, `http://HOST:PORT`. The environment's is never used.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// A file with one line `USER:PASSWORD` for the proxy, which only root and nunbird-keys' account can read.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    pub(crate) proxy_auth_file: Option<PathBuf>,
}

impl ServerProxy {
    /// Both, where they are sound.
    ///
    /// # Errors
    /// What to write instead, without the address, which may have a password in it.
    pub(crate) fn checked(&self) -> Result<(Option<String>, Option<PathBuf>), CtlError> {
        let proxy = self.proxy.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        if let Some(url) = &proxy {
            check_proxy(url)
                .map_err(|help| CtlError::new(format!("--proxy: not the address of a proxy: {help}")))?;
        }
        let file = self.proxy_auth_file.clone();
        // A list of configurations has it between spaces.
        let odd = |path: &&PathBuf| {
            !path.is_absolute()
                || path.to_string_lossy().contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if let Some(path) = file.as_ref().filter(odd) {
            let shown = path.to_string_lossy();
            let message =
                format!("--proxy-auth-file {}: expected an absolute path without spaces", Untrusted(&shown));
            return Err(CtlError::new(message));
        }
        Ok((proxy, file))
    }
}

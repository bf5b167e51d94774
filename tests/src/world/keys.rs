//! The machine's keys directory: filled by `nunbird-keys`, or by hand where a test is about something else.

use super::{Finished, Privilege, World};
use crate::issuer::{SigningKey, now};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

impl World {
    /// Has `nunbird-keys` fetch the server's keys, as the owner of the keys directory.
    pub fn refresh_keys(&self) -> Finished {
        let owner = if self.privilege == Privilege::None { self.runner().name.as_str() } else { "nunbird" };
        let url = self.issuer.url();
        let (ca_file, keys) = (self.paths.ca_file.as_os_str(), self.paths.keys.as_os_str());
        let words: [&OsStr; 11] = [
            "refresh".as_ref(),
            "--server-name".as_ref(),
            "site".as_ref(),
            "--url".as_ref(),
            url.as_ref(),
            "--issuer".as_ref(),
            url.as_ref(),
            "--keys-dir".as_ref(),
            keys,
            "--ca-file".as_ref(),
            ca_file,
        ];
        let mut spec = self.program(owner, self.paths.bin.join("nunbird-keys"), &words);
        spec.environment.clear();
        self.run(&spec)
    }

    /// Writes the keys that the server shows now, as a fetch at this moment would have, without `nunbird-keys`.
    pub fn write_keys(&self) {
        self.write_keys_file(&[&self.issuer.login_key(), &self.issuer.key()]);
    }

    /// Writes a keys file with these keys, fetched at this moment, as the owner of the keys directory.
    pub fn write_keys_file(&self, keys: &[&SigningKey]) {
        let now = now();
        let stored = |key: &&SigningKey| {
            let jwk = key.jwk();
            let parts = if key.algorithm() == "RS256" { ["n", "e"] } else { ["x", "y"] };
            let mut material = json!({ "alg": key.algorithm() });
            for part in parts {
                material[part] = jwk[part].clone();
            }
            json!({ "kid": key.kid(), "material": material, "last_seen": now, "pinned": false })
        };
        let keys: Vec<Value> = keys.iter().map(stored).collect();
        let file = json!({ "version": 1, "server": "site", "issuer": self.issuer.url(), "fetched_at": now, "keys": keys });
        let directory = self.host_path(&self.paths.keys);
        let path = directory.join("site.json");
        fs::write(&path, file.to_string()).expect("a keys file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let owner = fs::metadata(&directory).expect("a keys directory");
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("an owner");
    }

    /// Lets the next fetch of keys happen at once: `nunbird-keys` keeps a minute between two.
    pub fn allow_refresh(&self) {
        // There is none before the first fetch.
        let _absent = fs::remove_file(self.host_path(self.paths.keys.join("site.attempt")));
    }
}

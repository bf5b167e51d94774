//! The words of an engine's commands: placeholders filled in, and lists that stand only where there
//! is something to say.

use crate::description::{Description, Identities};
use nunbird_handover::{Bind, Container, Gpu};
use nunbird_stage::template::fill_word;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Values of placeholders.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// Which ids the engine's commands have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Subordinate ids beside the account's own, or an engine that needs none.
    Many,
    /// The account's own id alone, in a user namespace of ours.
    One,
}

/// Which network the container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The host's.
    Host,
    /// Its own, which the engine connects to others.
    Own,
    /// Its own, which ends at its loopback.
    Alone,
}

impl Network {
    /// What the policy says, but never the host's where other accounts would reach the job's services.
    pub(crate) fn of(container: &Container) -> Self {
        if container.host_network && container.services.is_empty() { Network::Host } else { Network::Own }
    }
}

/// The words of an engine's lists for one job.
#[derive(Debug)]
pub(crate) struct Lists<'d> {
    description: &'d Description,
    container: &'d Container,
    binds: Vec<Bind>,
    ids: Ids,
    network: Network,
    login: bool,
}

impl<'d> Lists<'d> {
    /// `binds` is all that the container has of the host's files.
    pub(crate) fn new(
        description: &'d Description,
        container: &'d Container,
        binds: Vec<Bind>,
        ids: Ids,
    ) -> Self {
        Lists { description, container, binds, ids, network: Network::of(container), login: false }
    }

    /// The same with another network.
    pub(crate) fn on(self, network: Network) -> Self {
        Lists { network, ..self }
    }

    /// The same for a pull with or without a password.
    pub(crate) fn with_login(&self, login: bool) -> Self {
        Lists { binds: self.binds.clone(), login, ..*self }
    }

    fn identities(&self) -> &'d Identities {
        match self.ids {
            Ids::Many => &self.description.words.many,
            Ids::One => &self.description.words.one,
        }
    }

    /// A command with all of its placeholders filled in.
    pub(crate) fn fill(&self, command: &[String], values: &Values) -> Vec<String> {
        let mut filled = Vec::new();
        for word in command {
            match self.list(word, values) {
                Some(list) => filled.extend(list),
                None => filled.push(fill_word(word, values)),
            }
        }
        filled
    }

    fn list(&self, word: &str, values: &Values) -> Option<Vec<String>> {
        let words = &self.description.words;
        let all = |list: &[String]| list.iter().map(|word| fill_word(word, values)).collect::<Vec<_>>();
        Some(match word {
            "{storage}" => all(&self.identities().storage),
            "{job_storage}" => all(&self.identities().job_storage),
            "{identity}" if self.container.root => all(&self.identities().root),
            "{identity}" => all(&self.identities().account),
            "{network}" => match self.network {
                Network::Host => all(&words.network_host),
                Network::Own => all(&words.network_own),
                Network::Alone => all(&words.network_alone),
            },
            "{services}" => match &self.description.services {
                Some(services) if !self.container.services.is_empty() => all(&services.join),
                _ => Vec::new(),
            },
            "{service_identity}" => all(&self.identities().service),
            "{no_new_privileges}" if self.container.no_new_privileges => all(&words.no_new_privileges),
            "{no_new_privileges}" => Vec::new(),
            "{gpu}" => match self.container.gpu {
                Some(Gpu::Nvidia) => all(&words.gpu_nvidia),
                Some(Gpu::Amd) => all(&words.gpu_amd),
                None => Vec::new(),
            },
            "{platform}" => match self.container.image.as_ref().and_then(|image| image.platform.as_ref()) {
                Some(platform) => {
                    let architecture = platform.split('/').nth(1).unwrap_or(platform).to_owned();
                    let more = [("value", platform), ("architecture", &architecture)];
                    with(&words.platform, values, &more)
                }
                None => Vec::new(),
            },
            "{options}" => self.container.options.clone(),
            "{login}" if self.login => all(&words.login),
            // What depends on the host, only the outer script knows.
            "{login}" | "{optional}" => Vec::new(),
            "{mount_points}" => self.for_each_bind(values, |_| &words.mount_point),
            "{binds}" => self.for_each_bind(values, |bind| match bind.writable {
                true => &words.bind,
                false => &words.bind_read_only,
            }),
            _ => return None,
        })
    }

    fn for_each_bind(&self, values: &Values, words: impl Fn(&Bind) -> &'d Vec<String>) -> Vec<String> {
        let mut filled = Vec::new();
        for bind in &self.binds {
            let (source, target) = (bind.source.display().to_string(), bind.target.display().to_string());
            filled.extend(with(words(bind), values, &[("source", &source), ("target", &target)]));
        }
        filled
    }
}

fn with(list: &[String], values: &Values, more: &[(&'static str, &String)]) -> Vec<String> {
    let mut values = values.clone();
    values.extend(more.iter().map(|(name, value)| (*name, (*value).clone())));
    list.iter().map(|word| fill_word(word, &values)).collect()
}

/// A bind that the engine has no words for: most have some for both kinds.
pub(crate) fn unknown_bind<'b>(description: &Description, binds: &'b [Bind]) -> Option<&'b Bind> {
    let words = &description.words;
    binds.iter().find(|bind| if bind.writable { &words.bind } else { &words.bind_read_only }.is_empty())
}

/// A path that the engine's words for binds cannot express.
pub(crate) fn inexpressible<'b>(description: &Description, binds: &'b [Bind]) -> Option<&'b PathBuf> {
    let forbidden = |path: &&PathBuf| {
        let text = path.to_string_lossy();
        text.chars().any(|c| c.is_control() || description.words.bind_forbids.contains(c))
    };
    binds.iter().flat_map(|bind| [&bind.source, &bind.target]).find(forbidden)
}

#[cfg(test)]
mod tests {
    use super::{Ids, Lists, Network, Values, inexpressible, unknown_bind};
    use crate::description::podman;
    use crate::testing::{bind, container};
    use nunbird_handover::Gpu;

    #[test]
    fn lists_stand_only_where_the_job_has_what_they_say() {
        let description = podman();
        let mut container = container();
        container.host_network = false;
        let values = Values::from([("uid", "7".to_owned()), ("gid", "8".to_owned())]);
        let words =
            ["{platform}", "{gpu}", "{identity}", "{network}", "{no_new_privileges}", "{binds}", "{options}"]
                .map(str::to_owned);
        let fill = |container: &_, ids| {
            Lists::new(&description, container, vec![bind("/a", "/b", false)], ids)
                .fill(&words, &values)
                .join(" ")
        };
        assert_eq!(
            fill(&container, Ids::Many),
            "--userns=keep-id --user=7:8 --group-add=keep-groups --network=private --volume=/a:/b:ro,rslave"
        );
        container.root = true;
        container.host_network = true;
        container.no_new_privileges = true;
        container.gpu = Some(Gpu::Amd);
        container.options = vec!["{uid}".to_owned(), "--x y".to_owned()];
        container.image.as_mut().expect("an image").platform = Some("linux/arm64".to_owned());
        assert_eq!(
            fill(&container, Ids::One),
            "--platform=linux/arm64 --device=/dev/kfd --device=/dev/dri --uidmap=0:0:1 --gidmap=0:0:1 --user=0:0 \
             --network=host --security-opt=no-new-privileges --volume=/a:/b:ro,rslave {uid} --x y"
        );
    }

    #[test]
    fn a_job_with_services_never_has_the_network_of_the_host() {
        let description = podman();
        let mut container = container();
        let fill = |container: &_, network: Option<Network>| {
            let lists = Lists::new(&description, container, Vec::new(), Ids::Many);
            let lists = match network {
                Some(network) => lists.on(network),
                None => lists,
            };
            lists.fill(&["{network}".to_owned(), "{services}".to_owned()], &Values::new()).join(" ")
        };
        assert_eq!(fill(&container, None), "--network=host");
        container.services = vec![nunbird_handover::Service {
            image: container.image.clone().expect("an image"),
            aliases: Vec::new(),
            command: None,
            variables: std::collections::BTreeMap::new(),
            ports: Vec::new(),
        }];
        assert!(fill(&container, None).starts_with("--network=private --no-hosts "));
        assert!(fill(&container, Some(Network::Alone)).starts_with("--network=none --no-hosts "));
    }

    #[test]
    fn a_bind_for_which_the_engine_has_no_words_is_found() {
        let mut description = podman();
        let binds = [bind("/a", "/a", true), bind("/b", "/b", false)];
        assert!(unknown_bind(&description, &binds).is_none());
        description.words.bind_read_only.clear();
        assert_eq!(unknown_bind(&description, &binds), Some(&binds[1]));
    }

    #[test]
    fn a_path_with_a_separator_of_the_engines_is_found() {
        let description = podman();
        for path in ["/a:b", "/a,b", "/a\nb"] {
            assert!(inexpressible(&description, &[bind("/a", "/a", true), bind(path, "/x", true)]).is_some());
            assert!(inexpressible(&description, &[bind("/x", path, true)]).is_some());
        }
        assert!(inexpressible(&description, &[bind("/a b", "/a'b", true)]).is_none());
    }
}

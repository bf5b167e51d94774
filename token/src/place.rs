//! Finds which of the configured servers hosts a job's repository.
//!
//! gitlab-runner passes `git_info.repo_url` on as the server sent it: the project's HTTP URL with
//! the job token as password. It is below the server's `external_url` (with its port, and its path
//! under a relative URL), or below the "Custom Git clone URL for HTTP(S)" of the server's settings.
//! `clone_url` of the runner's config.toml does not affect it.

/// The parts of a URL that identify its server.
struct ServerUrl<'a> {
    host: &'a str,
    port: &'a str,
    /// Without a slash at either end.
    path: &'a str,
}

/// Parses a URL, without its credentials.
fn parse(url: &str) -> Option<ServerUrl<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let end = match address.starts_with('[') {
        true => address.find(']')? + 1,
        false => address.find(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at_checked(end)?;
    let known = if scheme.eq_ignore_ascii_case("http") { "80" } else { "443" };
    let port = port.strip_prefix(':').filter(|port| !port.is_empty()).unwrap_or(known);
    (!host.is_empty()).then_some(ServerUrl { host, port, path: path.trim_matches('/') })
}

impl ServerUrl<'_> {
    fn has_host_of(&self, other: &ServerUrl<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
    }

    fn is_above(&self, other: &ServerUrl<'_>) -> bool {
        let below = other.path.strip_prefix(self.path);
        let path = self.path.is_empty() || below.is_some_and(|rest| rest.starts_with('/'));
        self.has_host_of(other) && self.port == other.port && path
    }
}

/// Indices of the servers that host the repository, by the URLs of each: the only one with its
/// host; if several share a host, those with the longest URL that the repository is below. Several
/// results are one server that is configured twice.
pub(crate) fn servers_of(repository: &str, servers: &[&[String]]) -> Vec<usize> {
    let Some(repository) = parse(repository) else { return Vec::new() };
    let places =
        |index: &usize| servers.get(*index).into_iter().copied().flatten().filter_map(|url| parse(url));
    let on_host: Vec<usize> = (0..servers.len())
        .filter(|index| places(index).any(|place| place.has_host_of(&repository)))
        .collect();
    if on_host.len() == 1 {
        return on_host;
    }
    let length = |index: &usize| {
        places(index).filter(|place| place.is_above(&repository)).map(|place| place.path.len()).max()
    };
    let longest = on_host.iter().filter_map(length).max();
    on_host.iter().copied().filter(|index| longest.is_some() && length(index) == longest).collect()
}

#[cfg(test)]
mod tests {
    use super::servers_of;

    fn find(repository: &str, servers: &[&[&str]]) -> Vec<usize> {
        let owned: Vec<Vec<String>> =
            servers.iter().map(|urls| urls.iter().map(|url| (*url).to_owned()).collect()).collect();
        servers_of(repository, &owned.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn a_repository_is_on_the_server_of_its_host_port_and_path() {
        let hosts: &[&[&str]] =
            &[&["https://a.example.org"], &["https://b.example.org", "https://git.example.org"]];
        for (repository, server) in [
            ("https://gitlab-ci-token:x@a.example.org/hpc/app.git", vec![0]),
            ("https://gitlab-ci-token:x@A.Example.org:8443/hpc/app.git", vec![0]),
            ("https://gitlab-ci-token:x@b.example.org/hpc/app.git", vec![1]),
            ("https://gitlab-ci-token:x@git.example.org/hpc/app.git", vec![1]),
            ("https://a.example.org@b.example.org/hpc/app.git", vec![1]),
            ("https://c.example.org/a.example.org/app.git", vec![]),
            ("https://a.example.org.c/hpc/app.git", vec![]),
            ("a.example.org/hpc/app.git", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(find(repository, hosts), server, "{repository}");
        }
        let shared: &[&[&str]] = &[
            &["https://h"],
            &["https://h/git"],
            &["https://h:8443"],
            &["http://[::1]:80"],
            &["http://[::1]:81/"],
        ];
        for (repository, server) in [
            ("https://h/hpc/app.git", vec![0]),
            ("https://h:443/gitty/app.git", vec![0]),
            ("https://x:y@h/git/hpc/app.git", vec![1]),
            ("https://h:8443/git/app.git", vec![2]),
            ("https://h:8444/git/app.git", vec![]),
            ("http://x@[::1]/a/b.git", vec![3]),
            ("http://x@[::1]:81/a/b.git", vec![4]),
        ] {
            assert_eq!(find(repository, shared), server, "{repository}");
        }
        assert_eq!(find("https://h/a/b.git", &[&["https://h"], &["https://h"]]), [0, 1], "one server, twice");
    }
}

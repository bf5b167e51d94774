//! Which URLs a GitLab server and its proxy may have.

use std::borrow::Cow;

/// HTTPS anywhere, HTTP on loopback alone; no credentials, query or fragment.
///
/// # Errors
/// What to write instead.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("write `https://` and the server's name")?;
    let authority = rest.split('/').next().unwrap_or("");
    if authority.is_empty() || url.contains(['?', '#', ' ', '\\']) || authority.contains('@') {
        return Err(
            "write `https://` and the server's name, and a path if GitLab lies below one; nothing else",
        );
    }
    let host = host(authority);
    match scheme {
        "https" => Ok(()),
        "http" if ["localhost", "127.0.0.1", "[::1]"].contains(&host) => Ok(()),
        _ => {
            Err("use `https://`; plain HTTP is for a server on this very host (localhost, 127.0.0.1, [::1])")
        }
    }
}

/// A forward proxy: plain HTTP to a host and a port. What goes through it is TLS from end to end, so that it needs none of its own.
///
/// # Errors
/// What to write instead; never a part of the text, which may hold a password.
pub fn check_proxy(url: &str) -> Result<(), &'static str> {
    let shape = "write `http://`, the proxy's name and its port, such as `http://proxy.example.org:3128`, and nothing else";
    let (scheme, authority) = url.split_once("://").ok_or(shape)?;
    if url.contains('@') {
        return Err(
            "a configuration is no place for a password: write `USER:PASSWORD` into a file that only root and the group of \
             nunbird-keys' account can read (root:nunbird, mode 0640), and name it in `proxy_auth_file`",
        );
    }
    if scheme != "http" {
        return Err(
            "write `http://`: the proxy passes on the encrypted connection to the GitLab server, and cannot read it; proxies \
             of other kinds (`https`, `socks5`) are not supported",
        );
    }
    let port = authority.strip_prefix(host(authority)).and_then(|rest| rest.strip_prefix(':')).unwrap_or("");
    let number = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if number && is_host(host(authority)) { Ok(()) } else { Err(shape) }
}

/// A name or an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'),
    }
}

/// A line of a configuration without what may be a name and a password in it: what precedes an `@` in the value of a key with `proxy`
/// in its name, and what stands between `://` and `@` in any line.
pub(crate) fn without_credentials(text: &str) -> Cow<'_, str> {
    // A password may contain anything, and a line with one is written in a hurry.
    let (before, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => match text.split_once('=') {
            Some((key, value)) if key.to_ascii_lowercase().contains("proxy") => (format!("{key}="), value),
            _ => return Cow::Borrowed(text),
        },
    };
    match rest.rsplit_once('@') {
        Some((_, after)) => Cow::Owned(format!("{before}***@{after}")),
        None => Cow::Borrowed(text),
    }
}

/// An authority without its port. An IPv6 address is in brackets and has colons of its own (RFC 3986, 3.2.2).
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// Scheme, host and port of a URL that passed [`check_url`]: everything before the path.
pub fn origin(url: &str) -> &str {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(after_scheme..).unwrap_or("");
    let end = after_scheme + rest.find('/').unwrap_or(rest.len());
    url.get(..end).unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::{check_proxy, check_url, origin, without_credentials};

    #[test]
    fn plain_http_is_for_loopback_with_and_without_a_port() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(check_url(&format!("http://{host}")), Ok(()), "{host}");
            assert_eq!(check_url(&format!("http://{host}:8080/gitlab")), Ok(()), "{host}");
        }
        for other in
            ["[::2]", "[::1", "::1", "[::1]x", "[::1]:1]", "[::1]:80:x", "localhost.example.org", "h:1"]
        {
            assert!(check_url(&format!("http://{other}")).is_err(), "{other}");
        }
    }

    #[test]
    fn a_proxy_is_plain_http_with_a_port_and_without_a_password() {
        for good in ["http://proxy.example.org:3128", "http://10.0.0.1:80", "http://[::1]:8080", "http://p:1"]
        {
            assert_eq!(check_proxy(good), Ok(()), "{good}");
        }
        for bad in [
            "proxy.example.org:3128",
            "http://proxy.example.org",
            "http://proxy.example.org:",
            "http://:3128",
            "http://p:0",
            "http://p:65536",
            "http://p:+80",
            "http://p:80/x",
            "http://p:80?x",
            "http://[::2",
            "http://[x]:80",
            "http://p q:80",
            "http://p\r\nX:80",
        ] {
            assert!(
                check_proxy(bad).is_err_and(|help| help.contains("http://proxy.example.org:3128")),
                "{bad}"
            );
        }
        for secret in
            ["http://me:hunter2@proxy:3128", "http://me@proxy:3128", "https://me:hunter2@proxy:3128"]
        {
            let help = check_proxy(secret).expect_err(secret);
            assert!(help.contains("proxy_auth_file") && !help.contains("hunter2"), "{help}");
        }
        for other in ["https://proxy:3128", "socks5://proxy:1080"] {
            assert!(check_proxy(other).is_err_and(|help| help.contains("not supported")), "{other}");
        }
    }

    #[test]
    fn a_password_in_a_line_is_not_shown() {
        for (line, shown) in [
            ("proxy = \"http://me:hunter2@proxy:3128\"", "proxy = \"http://***@proxy:3128\""),
            (
                "x = [\"https_proxy=http://me:hunt@er:2/@proxy:1\"] # a",
                "x = [\"https_proxy=http://***@proxy:1\"] # a",
            ),
            ("proxy = \"me:hunter2@proxy:3128\"", "proxy =***@proxy:3128\""),
            ("url = \"https://gitlab.example.org\"", "url = \"https://gitlab.example.org\""),
            ("user = \"a@b\"", "user = \"a@b\""),
        ] {
            assert_eq!(without_credentials(line), shown);
        }
    }

    #[test]
    fn the_origin_ends_where_the_path_begins() {
        assert_eq!(origin("https://h:8443/gitlab"), "https://h:8443");
        assert_eq!(origin("https://h"), "https://h");
    }
}

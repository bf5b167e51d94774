//! Which URLs a GitLab server may have.

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
    use super::{check_url, origin};

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
    fn the_origin_ends_where_the_path_begins() {
        assert_eq!(origin("https://h:8443/gitlab"), "https://h:8443");
        assert_eq!(origin("https://h"), "https://h");
    }
}

//! Where the server under test is: its URL, taken apart.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// The public address of a server, as in `https://login.example.org` or `http://[::1]:8080/auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether TLS is spoken.
    pub(super) https: bool,
    /// Name or address, without brackets.
    pub(super) host: String,
    /// The port, the scheme's own when none is given.
    pub(super) port: u16,
    /// `host[:port]` as it stands in the URL: what `Host` says.
    pub(super) authority: String,
    /// A path in front of all others, without a slash at its end; mostly empty.
    pub(super) prefix: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no http:// or https:// URL of a server");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err("the URL is the server's address only: no user, no `?`".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            https,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target: Target = "https://login.example.org/auth/".parse().unwrap();
        assert_eq!((target.https, target.port), (true, 443));
        assert_eq!((&*target.host, &*target.prefix), ("login.example.org", "/auth"));
        let target: Target = "http://[::1]:8080".parse().unwrap();
        assert_eq!((&*target.host, target.port, &*target.prefix), ("::1", 8080, ""));
        assert_eq!(target.authority, "[::1]:8080");
        assert_eq!(target.to_string(), "http://[::1]:8080");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "ftp://login.example.org",
            "login.example.org",
            "127.0.0.1:8080",
            "/api/v1",
            "",
            "http://",
            "http://u:p@login.example.org",
            "http://login.example.org/?x=1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}

//! Who calls, and from where: `Authorization`, and the forwarding header behind a trusted proxy.
//!
//! The first line is the peer's address, each further one a line of the header; both readers get
//! the same lines.

use std::net::IpAddr;
use std::sync::LazyLock;

use passmint::config::{Config, Server};
use passmint::http::error::Unauthorized;
use passmint::http::fuzzing::{self, HeaderValue};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let trusted = ("PASSMINT_SERVER__TRUSTED_PROXIES".to_owned(), "10.0.0.0/8,fd00::/8".to_owned());
    let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config: Config =
        passmint::config::fuzzing::load("", vec![trusted], no_file).expect("right");
    config.server
});

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let peer = lines.next().and_then(|peer| std::str::from_utf8(peer).ok()?.parse().ok());
    let lines: Result<Vec<_>, _> = lines.map(HeaderValue::from_bytes).collect();
    let Ok(lines) = lines else {
        return;
    };
    authorization(&lines);
    client_address(peer.unwrap_or(IpAddr::from([10, 0, 0, 1])), &lines);
}

fn authorization(lines: &[HeaderValue]) {
    let read = fuzzing::authorization(lines);
    let [line] = lines else {
        let wanted =
            if lines.is_empty() { Unauthorized::NotProvided } else { Unauthorized::Invalid };
        assert_eq!(read, Err(wanted), "there is to be one line");
        return;
    };
    if let Ok(token) = &read {
        assert!(!token.is_empty() && !token.contains(' '));
        assert!(line.as_bytes().trim_ascii_end().ends_with(token.as_bytes()), "not what was sent");
        for written in [format!("JWT {token}"), format!("bearer    {token}  ")] {
            let line = HeaderValue::from_bytes(written.as_bytes()).expect("it was one before");
            assert_eq!(fuzzing::authorization(&[line]), read, "{written:?}");
        }
    }
    // Tabs apart, the original does just this.
    let Some(text) = std::str::from_utf8(line.as_bytes()).ok().filter(|text| !text.contains('\t'))
    else {
        return;
    };
    let mut parts = text.split(' ').filter(|part| !part.is_empty());
    let known = parts
        .next()
        .is_some_and(|scheme| ["jwt", "bearer"].contains(&scheme.to_ascii_lowercase().as_str()));
    let wanted = match (known, parts.next(), parts.next()) {
        (false, ..) => Err(Unauthorized::NotProvided),
        (true, None, _) => Err(Unauthorized::NoCredentials),
        (true, Some(token), None) => Ok(token.to_owned()),
        (true, Some(_), Some(_)) => Err(Unauthorized::Spaces),
    };
    assert_eq!(read, wanted, "{text:?}");
}

fn trusted(address: IpAddr) -> bool {
    SERVER.trusted_proxies.iter().any(|network| network.contains(&address))
}

fn address(peer: IpAddr, lines: &[HeaderValue]) -> IpAddr {
    let address = fuzzing::client_address(peer, lines, &SERVER).expect("the header has a name");
    assert_eq!(address, address.to_canonical(), "one address has one spelling");
    address
}

fn client_address(peer: IpAddr, lines: &[HeaderValue]) {
    let found = address(peer, lines);
    if !trusted(peer.to_canonical()) {
        assert_eq!(found, peer.to_canonical(), "the peer is nobody's proxy");
        return;
    }
    // What a trusted proxy appends counts, whatever the client sent before: in a line of its own, or at
    // the end of the last one.
    let client = IpAddr::from([203, 0, 113, 5]);
    let own = [lines, &[HeaderValue::from_static("203.0.113.5")]].concat();
    assert_eq!(address(peer, &own), client);
    if let Some((last, before)) = lines.split_last() {
        let joined = [last.as_bytes(), b", 203.0.113.5"].concat();
        let joined = HeaderValue::from_bytes(&joined).expect("it was one before");
        assert_eq!(address(peer, &[before, &[joined]].concat()), client);
    }
    // Once somebody is found whom nobody vouches for, what stands to the left is that one's own claim.
    if !trusted(found) {
        let more = [&[HeaderValue::from_static("198.51.100.7")], lines].concat();
        assert_eq!(address(peer, &more), found);
    }
}

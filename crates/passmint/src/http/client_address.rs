//! Where a request comes from: the socket's address, or what a trusted proxy says (contract section 6).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::HeaderMap;

use crate::config::Server;
use crate::telemetry::{AddressDoubt, Metrics};

/// The forwarding header read from the right, past trusted hops; without a trusted peer, the peer. With
/// what speaks against it: callers that it cannot tell apart share limits.
pub(super) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    server: &Server,
) -> (IpAddr, Option<AddressDoubt>) {
    let trusted = |address: &IpAddr| server.trusted_proxies.iter().any(|net| net.contains(address));
    let mut client = peer.to_canonical();
    if !trusted(&client) {
        let named = [server.forwarded_header.as_str(), "x-forwarded-for", "forwarded"];
        let forwarded = named.iter().any(|name| headers.contains_key(*name));
        return (client, forwarded.then_some(AddressDoubt::UntrustedPeer));
    }
    // As bytes: a line that is no text must not hide what stands in it behind the client's own.
    let standard = server.forwarded_header.eq_ignore_ascii_case("forwarded");
    let lines = headers.get_all(server.forwarded_header.as_str()).iter().rev();
    for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        let hop = if standard { forwarded_for(hop) } else { Some(hop.trim_ascii()) };
        let Some(address) = hop.and_then(hop_address) else {
            return (client, Some(AddressDoubt::UnreadableHop));
        };
        client = address.to_canonical();
        if !trusted(&client) {
            return (client, None);
        }
    }
    (client, None)
}

/// Counts addresses in doubt, and logs the first of each kind.
#[derive(Default)]
pub(super) struct AddressDoubts {
    logged_untrusted: AtomicBool,
    logged_unreadable: AtomicBool,
}

impl AddressDoubts {
    /// Notes one that came from `peer`.
    pub(super) fn note(&self, doubt: AddressDoubt, peer: IpAddr, metrics: &Metrics) {
        metrics.address_in_doubt(doubt);
        let logged = match doubt {
            AddressDoubt::UntrustedPeer => &self.logged_untrusted,
            AddressDoubt::UnreadableHop => &self.logged_unreadable,
        };
        if logged.load(Ordering::Relaxed) || logged.swap(true, Ordering::Relaxed) {
            return;
        }
        match doubt {
            AddressDoubt::UntrustedPeer => tracing::warn!(
                %peer,
                "a forwarding header came from an address that is not in server.trusted_proxies, and \
                 does not count. If that is your proxy, name it there: until then all its callers \
                 share one limit"
            ),
            AddressDoubt::UnreadableHop => tracing::warn!(
                %peer,
                "a trusted proxy's forwarding header holds something that is no address: callers like \
                 this one share one limit. Let the proxy write plain addresses"
            ),
        }
    }
}

/// The `for` of one element of a `Forwarded` header (RFC 7239 section 4), without its quotes. A value
/// that has a comma in its quotes is no address.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    let pairs = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let (value, None) = (values.next()?, values.next()) else { return None };
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value))
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    hop.parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn server(trusted: &str, header: &str) -> Server {
        let config = crate::config::Config::load(&crate::config::Sources {
            environment: vec![
                ("PASSMINT_SERVER__TRUSTED_PROXIES".to_owned(), trusted.to_owned()),
                ("PASSMINT_SERVER__FORWARDED_HEADER".to_owned(), header.to_owned()),
            ],
            ..crate::config::Sources::default()
        });
        config.unwrap().server
    }

    #[test]
    fn forwarding_headers_count_from_trusted_peers_only() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 192.0.2.7"));
        headers.append("x-forwarded-for", HeaderValue::from_static("10.0.0.9"));
        headers.append("forwarded", HeaderValue::from_static("for=7.7.7.7"));
        let from = |peer: &str, trusted: &str| {
            let server = server(trusted, "X-Forwarded-For");
            client_address(peer.parse().unwrap(), &headers, &server).0.to_string()
        };
        assert_eq!(from("10.0.0.1", "10.0.0.0/8"), "192.0.2.7");
        assert_eq!(from("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(from("203.0.113.5", "10.0.0.0/8"), "203.0.113.5");
        assert_eq!(from("::ffff:10.0.0.1", "10.0.0.0/8"), "192.0.2.7");
        let none = client_address(
            "10.0.0.1".parse().unwrap(),
            &HeaderMap::new(),
            &server("10.0.0.0/8", "X-Forwarded-For"),
        );
        assert_eq!(none, ("10.0.0.1".parse().unwrap(), None));
    }

    #[test]
    fn what_speaks_against_an_address_comes_with_it() {
        let doubt = |peer: &str, line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
            let server = server("10.0.0.0/8", "X-Forwarded-For");
            client_address(peer.parse().unwrap(), &headers, &server).1
        };
        assert_eq!(doubt("10.0.0.1", "192.0.2.7, 10.0.0.9"), None);
        assert_eq!(doubt("127.0.0.1", "192.0.2.7"), Some(AddressDoubt::UntrustedPeer));
        for hop in ["fe80::1%eth0", "192.0.2.7:65536", "\"192.0.2.7\"", "for=192.0.2.7", "unknown"]
        {
            assert_eq!(doubt("10.0.0.1", hop), Some(AddressDoubt::UnreadableHop), "{hop}");
        }
    }

    #[test]
    fn the_standard_header_is_read_as_rfc_7239_writes_it() {
        let from = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("forwarded", HeaderValue::from_static(line));
            let server = server("10.0.0.0/8", "Forwarded");
            client_address("10.0.0.1".parse().unwrap(), &headers, &server).0.to_string()
        };
        assert_eq!(from("for=6.6.6.6, for=192.0.2.7;proto=https;by=10.0.0.1"), "192.0.2.7");
        assert_eq!(from(r#"for=6.6.6.6, For="[2001:db8::7]:4711""#), "2001:db8::7");
        assert_eq!(from("for=192.0.2.7, for=10.0.0.9"), "192.0.2.7");
        assert_eq!(from("for=6.6.6.6, for=_hidden"), "10.0.0.1");
        assert_eq!(from("for=6.6.6.6, for=1.2.3.4;for=192.0.2.7"), "10.0.0.1", "given twice");
        assert_eq!(from("192.0.2.7"), "10.0.0.1", "not that header's form");
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing_that_a_proxy_wrote() {
        let from = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
            }
            let server = server("10.0.0.0/8", "X-Forwarded-For");
            client_address("10.0.0.1".parse().unwrap(), &headers, &server).0.to_string()
        };
        assert_eq!(from(&[b"6.6.6.6", b"\xff, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(from(&[b"6.6.6.6", b"\xff, 192.0.2.7, 10.0.0.9"]), "192.0.2.7");
        assert_eq!(from(&[b"6.6.6.6", b"\xff"]), "10.0.0.1");
    }

    #[test]
    fn hops_in_every_spelling() {
        for (hop, address) in [
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("unknown", None),
        ] {
            assert_eq!(hop_address(hop.as_bytes()), address.map(|a| a.parse().unwrap()), "{hop}");
        }
    }
}

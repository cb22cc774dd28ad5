//! `server` and `api`: the listeners, and what callers see.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{DAY, HOUR, SECOND};
use crate::config::reader::Reader;

/// The listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The public listener.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// Names beside its own address and loopback that the admin listener answers to in `Host`.
    pub admin_hosts: Vec<String>,
    /// `iss` of tokens.
    pub issuer: String,
    /// PEM certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// How long browsers keep to TLS once they have seen it here; zero: they are not asked to.
    pub hsts: Duration,
    /// Says that a proxy in front does TLS.
    pub behind_tls_proxy: bool,
    /// Origins that browsers may call from; `*` for all.
    pub cors_origins: Vec<String>,
    /// Peers whose forwarding header counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The one header they write the client's address into.
    pub forwarded_header: String,
    /// What a connection may take.
    pub limits: Limits,
}

/// What connections may take, of both listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in all.
    pub connections: u32,
    /// Open connections of one address (of IPv6: of its /64) that is no trusted proxy.
    pub connections_per_address: u32,
    /// How long a TLS handshake, or the head of a request once it has begun, may take to arrive.
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take none of an answer.
    pub write_timeout: Duration,
}

impl Limits {
    fn read(r: &mut Reader) -> Self {
        let span = (SECOND, HOUR);
        Self {
            connections: r.number("server.max_connections", 10_000, (10, 1_000_000)),
            connections_per_address: r.number(
                "server.max_connections_per_address",
                2_000,
                (1, 1_000_000),
            ),
            header_timeout: r.duration("server.header_timeout", 7 * SECOND, span),
            body_timeout: r.duration("server.body_timeout", 7 * SECOND, span),
            idle_timeout: r.duration("server.idle_timeout", 75 * SECOND, span),
            write_timeout: r.duration("server.write_timeout", 10 * SECOND, span),
        }
    }
}

impl Server {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let network = |text: &str| {
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| format!("`{text}` is no network: write 10.0.0.0/8 or 192.0.2.1"))?;
            if network.prefix_len() == 0 {
                return Err(format!(
                    "`{text}` is everybody: any client could then write its own address. Name the \
                     proxies"
                ));
            }
            Ok(network)
        };
        Self {
            listen: r.parsed("server.listen", local(8080), "127.0.0.1:8080"),
            admin_listen: r.parsed("server.admin_listen", local(8081), "127.0.0.1:8081"),
            admin_hosts: r.list("server.admin_hosts", &[], |host| Ok(host.to_owned())),
            issuer: r.text("server.issuer", "passmint"),
            tls_cert: r.optional_text("server.tls_cert").map(PathBuf::from),
            tls_key: r.optional_text("server.tls_key").map(PathBuf::from),
            hsts: r.duration("server.hsts", 365 * DAY, (Duration::ZERO, 3650 * DAY)),
            behind_tls_proxy: r.switch("server.behind_tls_proxy", false),
            cors_origins: r.list("server.cors_origins", &["*"], origin),
            trusted_proxies: r.list("server.trusted_proxies", &[], network),
            forwarded_header: header_name(r),
            limits: Limits::read(r),
        }
    }
}

fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '*', ' ']));
    if text == "*" || plain {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no origin: write https://app.example without a path, or *"))
}

fn header_name(r: &mut Reader) -> String {
    let name = r.text("server.forwarded_header", "X-Forwarded-For");
    if axum::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        r.problem("server.forwarded_header", "is no name of a header");
    }
    name
}

/// What callers see.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// Status of refused credentials: 206, or 401 for operators who want it.
    pub invalid_credentials_status: u16,
}

impl Api {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let choices = [("206", 206), ("401", 401)];
        Self {
            invalid_credentials_status: r.choice("api.invalid_credentials_status", 206, &choices),
        }
    }
}

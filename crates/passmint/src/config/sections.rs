//! The sections, each with its settings, defaults and bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use ipnet::IpNet;
use passmint_verify::Algorithm;

use super::reader::Reader;
use crate::domain::secret::SecretBytes;
use crate::domain::session::SessionPolicy;
use crate::throttle::{AccountRules, AddressRules};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// `database.url` when nothing else is said: a file in the working folder.
pub(super) const DEFAULT_DATABASE: &str = "sqlite://passmint.db";

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
    /// Says that a proxy in front does TLS.
    pub behind_tls_proxy: bool,
    /// Origins that browsers may call from; `*` for all.
    pub cors_origins: Vec<String>,
    /// Peers whose forwarding header counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The one header they write the client's address into.
    pub forwarded_header: String,
}

impl Server {
    pub(super) fn read(r: &mut Reader) -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let network = |text: &str| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| format!("`{text}` is no network: write 10.0.0.0/8 or 192.0.2.1"))
        };
        Self {
            listen: r.parsed("server.listen", local(8080), "127.0.0.1:8080"),
            admin_listen: r.parsed("server.admin_listen", local(8081), "127.0.0.1:8081"),
            admin_hosts: r.list("server.admin_hosts", &[], |host| Ok(host.to_owned())),
            issuer: r.text("server.issuer", "passmint"),
            tls_cert: r.optional_text("server.tls_cert").map(PathBuf::from),
            tls_key: r.optional_text("server.tls_key").map(PathBuf::from),
            behind_tls_proxy: r.switch("server.behind_tls_proxy", false),
            cors_origins: r.list("server.cors_origins", &["*"], origin),
            trusted_proxies: r.list("server.trusted_proxies", &[], network),
            forwarded_header: header_name(r),
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
    pub(super) fn read(r: &mut Reader) -> Self {
        let choices = [("206", 206), ("401", 401)];
        Self {
            invalid_credentials_status: r.choice("api.invalid_credentials_status", 206, &choices),
        }
    }
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The SQLite file.
    pub sqlite: PathBuf,
}

impl Database {
    pub(super) fn read(r: &mut Reader) -> Self {
        let url = r.url("database.url").unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let sqlite = Self::sqlite_path(&url);
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            r.problem(
                "database.url",
                "PostgreSQL is not supported by this version: use sqlite:///path/to/passmint.db",
            );
        } else if sqlite.is_none() {
            r.problem("database.url", "must look like sqlite:///var/lib/passmint/passmint.db");
        }
        Self { sqlite: sqlite.unwrap_or_default() }
    }

    /// The file of a `sqlite://` URL: `sqlite:///abs/olute.db` or `sqlite://rela/tive.db`.
    pub(super) fn sqlite_path(url: &str) -> Option<PathBuf> {
        url.strip_prefix("sqlite://").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The folder of the data.
    pub fn folder(&self) -> PathBuf {
        self.sqlite.parent().map(std::path::Path::to_owned).unwrap_or_default()
    }

    /// The socket by which commands reach a running server.
    pub fn socket(&self) -> PathBuf {
        self.sqlite.with_extension("sock")
    }
}

/// The key that seals all others.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// The file it is in; beside the data when not given, made at first start.
    pub file: Option<PathBuf>,
    /// The key itself.
    pub value: Option<SecretBytes>,
}

impl MasterKey {
    pub(super) fn read(r: &mut Reader) -> Self {
        let file = r.optional_text("master_key.file").map(PathBuf::from);
        let value = r.secret("master_key.value").and_then(|text| {
            let key = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
            let key = key.filter(|key| key.len() == 32);
            if key.is_none() {
                r.problem(
                    "master_key.value",
                    "must be 32 bytes in base64, as `openssl rand -base64 32` prints",
                );
            }
            key.map(SecretBytes::new)
        });
        if file.is_some() && value.is_some() {
            r.problem("master_key.file", "give master_key.file or master_key.value, not both");
        }
        Self { file, value }
    }
}

/// Access tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// How long one lives.
    pub access_lifetime: Duration,
    /// `aud`, when set.
    pub audience: Option<String>,
}

impl Tokens {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            access_lifetime: r.duration("tokens.access_lifetime", DAY, (SECOND, 30 * DAY)),
            audience: r.optional_text("tokens.audience"),
        }
    }
}

/// Sessions and refresh tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// See [`SessionPolicy::reuse_interval`].
    pub reuse_interval: Duration,
    /// See [`SessionPolicy::idle_lifetime`].
    pub idle_lifetime: Duration,
    /// See [`SessionPolicy::max_lifetime`].
    pub max_lifetime: Duration,
    /// See [`SessionPolicy::max_per_user`].
    pub max_per_user: u32,
    /// See [`SessionPolicy::end_access_token_on_refresh`].
    pub end_access_token_on_refresh: bool,
    /// Accept an unexpired access token for refreshing, as the original's first version did.
    pub refresh_with_access_token: bool,
    /// How long an ended session is kept, to tell why.
    pub keep_ended: Duration,
}

impl Sessions {
    pub(super) fn read(r: &mut Reader) -> Self {
        let long = (SECOND, 3650 * DAY);
        Self {
            reuse_interval: r.duration(
                "sessions.reuse_interval",
                MINUTE,
                (Duration::ZERO, 10 * MINUTE),
            ),
            idle_lifetime: r.duration("sessions.idle_lifetime", 30 * DAY, long),
            max_lifetime: r.duration("sessions.max_lifetime", 365 * DAY, long),
            max_per_user: r.number("sessions.max_per_user", 1000, (1, 1_000_000)),
            end_access_token_on_refresh: r.switch("sessions.end_access_token_on_refresh", false),
            refresh_with_access_token: r.switch("sessions.refresh_with_access_token", false),
            keep_ended: r.duration("sessions.keep_ended", 90 * DAY, long),
        }
    }

    /// The rules as the store applies them.
    pub fn policy(&self) -> SessionPolicy {
        SessionPolicy {
            reuse_interval: self.reuse_interval,
            idle_lifetime: self.idle_lifetime,
            max_lifetime: self.max_lifetime,
            max_per_user: self.max_per_user,
            end_access_token_on_refresh: self.end_access_token_on_refresh,
        }
    }
}

/// The revocation view and feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// How old a node's view may be before it answers 503.
    pub max_staleness: Duration,
    /// `max-age` of the feed.
    pub feed_max_age: Duration,
}

impl Revocation {
    pub(super) fn read(r: &mut Reader) -> Self {
        let bounds = (SECOND, HOUR);
        Self {
            max_staleness: r.duration("revocation.max_staleness", 30 * SECOND, bounds),
            feed_max_age: r.duration("revocation.feed_max_age", 5 * SECOND, bounds),
        }
    }
}

/// Logins.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// How long a login may wait for its hash before it is shed.
    pub max_wait: Duration,
    /// For how long a repeat of the same credentials needs no hash; zero: never.
    pub repeat_window: Duration,
}

impl Login {
    pub(super) fn read(r: &mut Reader) -> Self {
        let bounds = (Duration::from_millis(10), MINUTE);
        Self {
            max_wait: r.duration("login.max_wait", 2 * SECOND, bounds),
            repeat_window: r.duration(
                "login.repeat_window",
                Duration::ZERO,
                (Duration::ZERO, HOUR),
            ),
        }
    }
}

/// New passwords.
#[derive(Clone, Debug, PartialEq)]
pub struct PasswordSettings {
    /// The fewest characters of a new password.
    pub min_length: u32,
}

impl PasswordSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { min_length: r.number("password.min_length", 15, (8, 64)) }
    }
}

/// The hashing pool and the price of a hash (OWASP: 19 MiB, 2 passes, 1 lane).
#[derive(Clone, Debug, PartialEq)]
pub struct HashingSettings {
    /// Threads; 0: one per core.
    pub threads: u32,
    /// Argon2id memory in KiB.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// Argon2id lanes.
    pub lanes: u32,
}

impl HashingSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            threads: r.number("hashing.threads", 0, (0, 256)),
            memory_kib: r.number("hashing.memory_kib", 19 * 1024, (8, 1024 * 1024)),
            passes: r.number("hashing.passes", 2, (1, 20)),
            lanes: r.number("hashing.lanes", 1, (1, 16)),
        }
    }
}

/// Signing and refresh keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// The algorithm of keys that the server makes.
    pub algorithm: Algorithm,
    /// How often signing keys are replaced; zero: never by themselves.
    pub rotate_every: Duration,
}

impl Keys {
    pub(super) fn read(r: &mut Reader) -> Self {
        let choices = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Hs256]
            .map(|algorithm| (algorithm.name(), algorithm));
        let rotate_every = r.duration("keys.rotate_every", 90 * DAY, (Duration::ZERO, 3650 * DAY));
        if !rotate_every.is_zero() && rotate_every < 2 * HOUR {
            r.problem(
                "keys.rotate_every",
                "must be 0 or at least 2h: a key is published for an hour",
            );
        }
        Self { algorithm: r.choice("keys.algorithm", Algorithm::Es256, &choices), rotate_every }
    }
}

/// Throttling (contract section 6).
#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    /// Whether anybody is throttled.
    pub enabled: bool,
    /// Failures of an account from one network before anything is held back.
    pub free_failures: u32,
    /// The longest wait after a failure from one network.
    pub longest_delay: Duration,
    /// Failures of an account from everywhere before networks it is not known from are held back.
    pub account_failures: u32,
    /// Requests of one address to one endpoint, a second.
    pub requests_per_second: u32,
    /// The same, at once.
    pub burst: u32,
}

impl Throttle {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            enabled: r.switch("throttle.enabled", true),
            free_failures: r.number("throttle.free_failures", 5, (1, 100)),
            longest_delay: r.duration("throttle.longest_delay", 15 * MINUTE, (SECOND, HOUR)),
            account_failures: r.number("throttle.account_failures", 100, (5, 100_000)),
            requests_per_second: r.number("throttle.requests_per_second", 20, (1, 1_000_000)),
            burst: r.number("throttle.burst", 40, (1, 1_000_000)),
        }
    }

    /// The rules of failures.
    pub fn account_rules(&self) -> AccountRules {
        AccountRules {
            free: self.free_failures,
            longest_delay: self.longest_delay,
            everywhere: self.account_failures,
            interval: HOUR,
        }
    }

    /// The rules of requests.
    pub fn address_rules(&self) -> AddressRules {
        AddressRules { per_second: self.requests_per_second, burst: self.burst }
    }
}

/// The audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// How long a record is kept.
    pub keep: Duration,
}

impl Audit {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { keep: r.duration("audit.keep", 400 * DAY, (DAY, 36_500 * DAY)) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,passmint=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(r: &mut Reader) -> Self {
        let level = r.text("log.level", "info");
        if level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            r.problem("log.level", "must be error, warn, info, debug or trace");
        }
        let choices =
            [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
        Self { level, format: r.choice("log.format", LogFormat::Auto, &choices) }
    }
}

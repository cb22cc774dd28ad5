//! Settings: load, validate, freeze.
//!
//! Defaults, then `passmint.toml`, then the environment. Unknown keys are errors, and all mistakes
//! are reported at once, each with its place. This is the only room that reads the environment.
//! One file per section; each section is a plain struct that the rest of the house reads.

#[doc(hidden)]
pub mod fuzzing;
mod reader;
mod sections;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use reader::{Effective, Place, Problem};
pub use sections::{
    Api, Audit, Database, HashingSettings, Keys, Limits, Log, LogFormat, Login, MasterKey, Otlp,
    PasswordSettings, Revocation, Server, Sessions, Throttle, Tokens,
};
pub use value::parse_duration;

use crate::domain::user::escaped;
use reader::Reader;

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `server`
    pub server: Server,
    /// `api`
    pub api: Api,
    /// `database`
    pub database: Database,
    /// `master_key`
    pub master_key: MasterKey,
    /// `tokens`
    pub tokens: Tokens,
    /// `sessions`
    pub sessions: Sessions,
    /// `revocation`
    pub revocation: Revocation,
    /// `login`
    pub login: Login,
    /// `password`
    pub password: PasswordSettings,
    /// `hashing`
    pub hashing: HashingSettings,
    /// `keys`
    pub keys: Keys,
    /// `throttle`
    pub throttle: Throttle,
    /// `audit`
    pub audit: Audit,
    /// `log`
    pub log: Log,
    /// `otlp`
    pub otlp: Otlp,
    /// Every setting with its value as shown and its place, secrets hidden: `config print`.
    pub effective: Vec<Effective>,
}

/// Where settings come from, before any is read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; it must exist when given.
    pub file: Option<PathBuf>,
    /// `--data`: the folder of the embedded database, before all other sources.
    pub data: Option<PathBuf>,
    /// The environment's `PASSMINT_…` variables.
    pub environment: Vec<(String, String)>,
    /// Values a command sets by itself (the demo its port), after all other sources.
    pub overrides: Vec<(&'static str, String)>,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ConfigError(pub Vec<Problem>);

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|p| format!("  {p}")).collect();
    let count = problems.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    format!("{count} {noun} in the configuration:\n{}", lines.join("\n"))
}

impl Sources {
    /// The process's environment with those options.
    pub fn from_environment(file: Option<PathBuf>, data: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok().filter(|name| name.starts_with("PASSMINT_"))?;
                Some((name, value.to_string_lossy().into_owned()))
            })
            .collect();
        Self { file, data, environment, overrides: Vec::new() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The same, but the file that is read now must be there from now on: a reload that does not find
    /// it must not fall back to defaults.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.file = self.config_file();
        self
    }

    /// The configuration file to read: given, named by `PASSMINT_CONFIG`, or beside the data if
    /// there is one.
    pub fn config_file(&self) -> Option<PathBuf> {
        if let Some(file) = &self.file {
            return Some(file.clone());
        }
        if let Some(file) = self.variable("PASSMINT_CONFIG").filter(|file| !file.is_empty()) {
            return Some(PathBuf::from(file));
        }
        let url = self.variable("PASSMINT_DATABASE__URL").unwrap_or(sections::DEFAULT_DATABASE);
        let beside = match &self.data {
            Some(file) if file.is_file() => return None,
            Some(folder) => folder.join("passmint.toml"),
            None => {
                Database::sqlite_path(url)?.parent().unwrap_or(Path::new("")).join("passmint.toml")
            }
        };
        // One that cannot be looked at is a mistake to be told, and no reason for defaults.
        beside.try_exists().unwrap_or(true).then_some(beside)
    }
}

impl Config {
    /// Reads all sources and checks every setting.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(|path| std::fs::read_to_string(path));
        if let Some(file) = sources.config_file() {
            reader.add_file(&file);
        }
        Self::read(reader, sources)
    }

    /// Defaults, and where the database is as far as command line and environment say so: enough to reach a
    /// server that runs, when the settings have mistakes.
    pub fn to_reach_a_server(sources: &Sources) -> Option<Self> {
        let mut sources = sources.clone();
        sources.environment.retain(|(name, _)| name == "PASSMINT_DATABASE__URL");
        Self::read(Reader::new(|path| std::fs::read_to_string(path)), &sources).ok()
    }

    /// Reads what comes after the file and checks every setting.
    fn read(mut reader: Reader, sources: &Sources) -> Result<Self, ConfigError> {
        reader.add_environment(&sources.environment);
        if let Some(folder) = &sources.data {
            let url = format!("sqlite://{}", folder.join("passmint.db").display());
            reader.set("database.url", url, Place::CommandLine);
        }
        for (name, value) in &sources.overrides {
            reader.set(name, value.clone(), Place::CommandLine);
        }
        let mut config = Self {
            server: Server::read(&mut reader),
            api: Api::read(&mut reader),
            database: Database::read(&mut reader),
            master_key: MasterKey::read(&mut reader),
            tokens: Tokens::read(&mut reader),
            sessions: Sessions::read(&mut reader),
            revocation: Revocation::read(&mut reader),
            login: Login::read(&mut reader),
            password: PasswordSettings::read(&mut reader),
            hashing: HashingSettings::read(&mut reader),
            keys: Keys::read(&mut reader),
            throttle: Throttle::read(&mut reader),
            audit: Audit::read(&mut reader),
            log: Log::read(&mut reader),
            otlp: Otlp::read(&mut reader),
            effective: Vec::new(),
        };
        config.check_together(&mut reader);
        if let Some(file) = sources.data.as_ref().filter(|data| data.is_file()) {
            let text = format!("--data names a folder, and {} is a file", file.display());
            reader.problem("database.url", &text);
        }
        let (effective, mut problems) = reader.finish();
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.place.order());
            return Err(ConfigError(problems));
        }
        config.effective = effective;
        Ok(config)
    }

    /// Rules that concern two settings at once.
    fn check_together(&self, reader: &mut Reader) {
        let server = &self.server;
        if server.tls_cert.is_some() != server.tls_key.is_some() {
            reader.problem(
                "server.tls_cert",
                "server.tls_cert and server.tls_key go together: set both or none",
            );
        }
        let open = !server.listen.ip().is_loopback();
        if open && server.tls_cert.is_none() && !server.behind_tls_proxy {
            reader.problem(
                "server.listen",
                "passwords would cross the network in the clear: set server.tls_cert and \
                 server.tls_key, or server.behind_tls_proxy = true if a proxy in front does TLS",
            );
        }
        if server.behind_tls_proxy && server.trusted_proxies.is_empty() {
            reader.problem_of_either(
                ["server.behind_tls_proxy", "server.trusted_proxies"],
                "with server.behind_tls_proxy, server.trusted_proxies must name the proxy: otherwise \
                 everybody has its address, and one guesser locks all others out",
            );
        }
        let (public, admin) = (server.listen, server.admin_listen);
        let one_covers = public.ip() == admin.ip()
            || [public, admin].iter().any(|address| address.ip().is_unspecified());
        if public.port() == admin.port() && public.port() != 0 && one_covers {
            reader.problem("server.admin_listen", "is the same address as server.listen");
        }
        if server.issuer.is_empty() {
            reader.problem("server.issuer", "must not be empty");
        }
        // With more of them a token might be too long for Passmint to read.
        if escaped(&server.issuer) > 255 {
            reader.problem("server.issuer", "must have at most 255 characters");
        }
        if self.tokens.audience.as_deref().is_some_and(|audience| escaped(audience) > 128) {
            reader.problem("tokens.audience", "must have at most 128 characters");
        }
        if self.sessions.max_lifetime < self.sessions.idle_lifetime {
            reader.problem_of_either(
                ["sessions.max_lifetime", "sessions.idle_lifetime"],
                "sessions.max_lifetime must not be shorter than sessions.idle_lifetime",
            );
        }
        if self.tokens.access_lifetime < Duration::from_secs(1) {
            reader.problem("tokens.access_lifetime", "must be at least 1s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)], toml: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passmint.toml");
        std::fs::write(&file, toml).unwrap();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::load(&Sources {
            file: Some(file),
            environment: environment.iter().map(owned).collect(),
            ..Sources::default()
        })
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = load(&[], "").unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:8081");
        assert_eq!(config.tokens.access_lifetime, Duration::from_hours(24));
        assert_eq!(config.sessions.reuse_interval, Duration::from_mins(1));
        assert_eq!(config.sessions.idle_lifetime, Duration::from_hours(720));
        assert_eq!(config.sessions.max_per_user, 1000);
        assert_eq!(config.api.invalid_credentials_status, 206);
        assert!(config.throttle.enabled);
    }

    #[test]
    fn the_environment_comes_after_the_file() {
        let toml = "[sessions]\nreuse_interval = \"10s\"\nmax_per_user = 5\n";
        let config = load(&[("PASSMINT_SESSIONS__REUSE_INTERVAL", "20s")], toml).unwrap();
        assert_eq!(config.sessions.reuse_interval, Duration::from_secs(20));
        assert_eq!(config.sessions.max_per_user, 5);
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_that_name_is_no_mistake() {
        let set = [
            "PORT=tcp://10.0.0.1:80",
            "SERVICE_HOST=10.0.0.1",
            "SERVICE_PORT=80",
            "SERVICE_PORT_HTTP=80",
            "PORT_80_TCP=tcp://10.0.0.1:80",
            "PORT_80_TCP_PROTO=tcp",
            "PORT_80_TCP_PORT=80",
            "PORT_80_TCP_ADDR=10.0.0.1",
        ];
        let set = set.map(|set| set.split_once('=').unwrap());
        let set = set.map(|(name, value)| (format!("PASSMINT_{name}"), value));
        let environment: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert!(load(&environment, "").is_ok());
        for mistake in ["PORTS", "PORT_X_TCP", "PORT_80", "PORT_80_TCP_X", "SERVICE", "HOST"] {
            let mistake = format!("PASSMINT_{mistake}");
            assert!(load(&[(&mistake, "1")], "").is_err(), "{mistake}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_their_places() {
        let toml =
            "[sessions]\nreuse_interval = \"11m\"\nmax_per_usr = 5\n\n[srever]\nlisten = 1\n";
        let environment =
            [("PASSMINT_API__INVALID_CREDENTIALS_STATUS", "403"), ("PASSMINT_LOG_LEVEL", "info")];
        let error = load(&environment, toml).unwrap_err().to_string();
        for part in [
            "5 mistakes",
            "passmint.toml:2: sessions.reuse_interval",
            "passmint.toml:3: sessions.max_per_usr: unknown setting; did you mean sessions.max_per_user?",
            "passmint.toml:6: srever.listen: unknown setting",
            "PASSMINT_API__INVALID_CREDENTIALS_STATUS: must be 206 or 401",
            "PASSMINT_LOG_LEVEL: unknown variable; section and key are parted by two underscores",
        ] {
            assert!(error.contains(part), "{part:?} is not in:\n{error}");
        }
    }

    #[test]
    fn what_is_given_twice_is_named() {
        for toml in ["[sessions]\nmax_per_user = 5\nmax_per_user = 6\n", "[login]\n[login]\n"] {
            let said = load(&[], toml).unwrap_err().to_string();
            let key = if toml.contains("login") { "login" } else { "max_per_user" };
            assert!(said.contains(&format!("`{key}` is given twice: remove one")), "{said}");
        }
    }

    #[test]
    fn a_file_is_no_folder_for_data() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let data = Some(file.path().to_owned());
        let sources = Sources { file: None, data, environment: Vec::new(), overrides: Vec::new() };
        let error = Config::load(&sources).unwrap_err().to_string();
        assert!(error.contains("--data names a folder, and "), "{error}");
        assert!(!error.contains("passmint.toml"), "{error}");
    }

    #[test]
    fn an_open_listener_wants_tls() {
        let open = [("PASSMINT_SERVER__LISTEN", "0.0.0.0:8080")];
        assert!(load(&open, "").unwrap_err().to_string().contains("behind_tls_proxy"));
        let behind = "[server]\nbehind_tls_proxy = true\n";
        let alone = load(&open, behind).unwrap_err().to_string();
        assert!(alone.contains("server.trusted_proxies must name the proxy"), "{alone}");
        let named =
            |proxies: &str| load(&open, &format!("{behind}trusted_proxies = [{proxies}]\n"));
        assert!(named(r#""10.0.0.1""#).is_ok());
        for everybody in [r#""0.0.0.0/0""#, r#""::/0""#] {
            let error = named(everybody).unwrap_err().to_string();
            assert!(error.contains("is everybody"), "{error}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        std::fs::write(&file, format!("{key}\n")).unwrap();
        let config =
            load(&[("PASSMINT_MASTER_KEY__VALUE_FILE", file.to_str().unwrap())], "").unwrap();
        assert!(config.master_key.value.is_some());
        assert!(!format!("{config:?}").contains(key));
    }
}

//! Settings: a `passmint.toml` and, in lines that begin with `PASSMINT_`, the environment. No disk is
//! touched, and the real environment is not read.

use std::io;
use std::path::Path;

use passmint::config::{Config, ConfigError, Place, fuzzing};

/// A right master key, so that settings which hold it can also be accepted.
const SECRET: &str = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=";
/// What none of its sayings may hold: the key as written, and as bytes.
const NEVER: [&str; 2] = ["aHVudGVyMmh1bnRlcj", "hunter2hunter2"];

type Variables = Vec<(String, String)>;

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else {
        return;
    };
    let (environment, toml): (Vec<_>, Vec<_>) =
        data.split('\n').partition(|line| line.starts_with("PASSMINT_"));
    let toml = toml.join("\n");
    let environment: Variables = environment
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match load(&toml, environment.clone()) {
        Ok(config) => written_anew(&config),
        Err(ConfigError(problems)) => {
            assert!(!problems.is_empty());
            let lines = toml.matches('\n').count() + 1;
            for problem in problems {
                assert!(!problem.message.is_empty());
                if let Place::File(_, line) = problem.place {
                    assert!((1..=lines).contains(&line), "line {line} of {lines}");
                }
            }
        }
    }
    if !NEVER.iter().any(|word| data.contains(word)) {
        secrets(&toml, &environment);
    }
}

/// One file exists: it holds the secret.
fn load(toml: &str, environment: Variables) -> Result<Config, ConfigError> {
    fuzzing::load(toml, environment, |path: &Path| {
        if path == Path::new("/secret") {
            return Ok(format!("{SECRET}\nand more\n"));
        }
        Err(io::ErrorKind::NotFound.into())
    })
}

fn variable(setting: &str, value: &str) -> (String, String) {
    (format!("PASSMINT_{}", setting.replace('.', "__").to_uppercase()), value.to_owned())
}

/// `config print`, given back as the environment, says the same.
fn written_anew(config: &Config) {
    let print = |config: &Config| -> Vec<_> {
        config.effective.iter().map(|e| (e.setting.clone(), e.value.clone())).collect()
    };
    let printed = print(config);
    let mut names: Vec<_> = printed.iter().map(|(setting, _)| setting).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), printed.len(), "a setting is printed twice");
    let environment = printed
        .iter()
        .map(|(setting, value)| match (setting.as_str(), value.as_str()) {
            // Hidden: any other one.
            ("database.url", "***") => variable(setting, "sqlite:///other.db"),
            ("master_key.value", "***") => variable(setting, SECRET),
            (setting, value) => variable(setting, value),
        })
        .collect();
    match load("", environment) {
        Ok(again) => assert_eq!(print(&again), printed),
        Err(error) => panic!("what was accepted is refused: {error}"),
    }
}

/// Wherever a secret stands, however broken the rest is: nothing that is printed holds it.
fn secrets(toml: &str, environment: &Variables) {
    let with =
        |setting: &str, value: &str| [&environment[..], &[variable(setting, value)]].concat();
    let url = format!("postgres://passmint:{SECRET}@db/passmint");
    // One place for each input: six loads would make it six times as slow.
    let loaded = match toml.len() % 6 {
        0 => load(&format!("[master_key]\nvalue = \"{SECRET}{toml}"), environment.clone()),
        1 => load(&format!("[master_key]\nvalue = {SECRET}{toml}"), environment.clone()),
        2 => load(&format!("[database]\nurl = \"{url}{toml}"), environment.clone()),
        3 => load(toml, with("database.url", &url)),
        4 => load(toml, with("master_key.value", SECRET)),
        _ => load(toml, with("master_key.value_file", "/secret")),
    };
    let said = match &loaded {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error}\n{error:?}"),
    };
    for word in NEVER {
        assert!(!said.contains(word), "the secret shows: {said}");
    }
}

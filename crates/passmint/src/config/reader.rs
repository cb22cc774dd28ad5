//! Collects raw values with their places, hands them out typed, and keeps every complaint.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::value::{parse_duration, show_duration, split_list};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Default,
    /// A line of a file; 0: the file itself.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// An option, or a command's own choice.
    CommandLine,
}

impl Place {
    /// Places of a higher layer win.
    fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Variable(_) => 2,
            Self::CommandLine => 3,
        }
    }

    /// Mistakes are told file by file and line by line, then those of other places.
    pub(super) fn order(&self) -> (u8, PathBuf, usize) {
        match self {
            Self::File(path, line) => (0, path.clone(), *line),
            Self::Variable(name) => (1, PathBuf::from(name), 0),
            Self::CommandLine => (2, PathBuf::new(), 0),
            Self::Default => (3, PathBuf::new(), 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which setting, when it is one.
    pub setting: Option<String>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.setting) {
            (Place::Variable(name), _) => write!(f, "{name}: {}", self.message),
            (Place::Default, Some(setting)) => write!(f, "{setting}: {}", self.message),
            (place, Some(setting)) => write!(f, "{place}: {setting}: {}", self.message),
            (place, None) => write!(f, "{place}: {}", self.message),
        }
    }
}

/// One setting as it counts.
#[derive(Clone, Debug)]
pub struct Effective {
    /// `section.key`.
    pub setting: String,
    /// The value as text; `***` for a secret.
    pub value: String,
    /// Where it comes from.
    pub place: Place,
}

#[derive(Clone, Debug)]
struct Raw {
    /// Lists are joined by commas, as in the environment.
    text: String,
    place: Place,
}

/// Gives the text of a file; the disk's, unless settings are read without one.
pub(super) type ReadFile = fn(&Path) -> std::io::Result<String>;

/// Raw values on their way to being typed.
#[derive(Debug)]
pub(super) struct Reader {
    read_file: ReadFile,
    raw: BTreeMap<String, Raw>,
    effective: Vec<Effective>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(read_file: ReadFile) -> Self {
        Self { read_file, raw: BTreeMap::new(), effective: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn set(&mut self, setting: &str, text: String, place: Place) {
        self.raw.insert(setting.to_owned(), Raw { text, place });
    }

    /// What stands in a file that a setting names.
    pub(super) fn text_of(&self, path: &Path) -> std::io::Result<String> {
        (self.read_file)(path)
    }

    pub(super) fn add_file(&mut self, path: &Path) {
        match self.text_of(path) {
            Ok(text) => self.add_text(path, &text),
            Err(cause) => self.problems.push(Problem {
                place: Place::File(path.to_owned(), 0),
                setting: None,
                message: match cause.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        format!("cannot be read: {cause}. Run this as the user that runs Passmint")
                    }
                    _ => format!("cannot be read: {cause}"),
                },
            }),
        }
    }

    pub(super) fn add_text(&mut self, path: &Path, text: &str) {
        let complain = |line, message| Problem {
            place: Place::File(path.to_owned(), line),
            setting: None,
            message,
        };
        let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(1, |span| line(span.start));
                // Of other mistakes the text may be a secret.
                let key = error.span().and_then(|span| text.get(span));
                let message = match (error.message(), key) {
                    ("duplicate key", Some(key)) => format!("`{key}` is given twice: remove one"),
                    (message, _) => message.to_owned(),
                };
                self.problems.push(complain(at, message));
                return;
            }
        };
        for (section, value) in table.get_ref() {
            let DeValue::Table(keys) = value.get_ref() else {
                let name = section.get_ref();
                let message =
                    format!("`{name}` is not a section: write [section] and then key = value");
                self.problems.push(complain(line(section.span().start), message));
                continue;
            };
            for (key, value) in keys {
                let setting = format!("{}.{}", section.get_ref(), key.get_ref());
                let at = line(key.span().start);
                match show_toml(value.get_ref()) {
                    Some(text) => self.set(&setting, text, Place::File(path.to_owned(), at)),
                    None => self.problems.push(Problem {
                        setting: Some(setting),
                        ..complain(at, "must be a text, a number, a switch or a list".to_owned())
                    }),
                }
            }
        }
    }

    pub(super) fn add_environment(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("PASSMINT_").filter(|rest| *rest != "CONFIG") else {
                continue;
            };
            if is_of_kubernetes(rest) {
                continue;
            }
            let place = Place::Variable(name.clone());
            if let Some((section, key)) = rest.split_once("__") {
                let setting = format!("{section}.{key}").to_lowercase();
                self.set(&setting, value.clone(), place);
                continue;
            }
            let message = if rest == "DATA" {
                "unknown variable: give the folder with --data, or as \
                 PASSMINT_DATABASE__URL=sqlite:///FOLDER/passmint.db"
            } else {
                "unknown variable; section and key are parted by two underscores, as in \
                 PASSMINT_SERVER__LISTEN"
            };
            self.problems.push(Problem { place, setting: None, message: message.to_owned() });
        }
    }

    pub(super) fn problem(&mut self, setting: &str, message: &str) {
        let place = self
            .effective
            .iter()
            .find(|effective| effective.setting == setting)
            .map_or(Place::Default, |effective| effective.place.clone());
        self.problems.push(Problem {
            place,
            setting: Some(setting.to_owned()),
            message: message.to_owned(),
        });
    }

    /// A problem of two settings, told at the first of them that was written somewhere.
    pub(super) fn problem_of_either(&mut self, settings: [&str; 2], message: &str) {
        let written = |name: &&str| {
            let found = |e: &&Effective| e.setting == *name && e.place != Place::Default;
            self.effective.iter().any(|effective| found(&effective))
        };
        let [first, _] = settings;
        let setting = settings.into_iter().find(|name| written(name)).unwrap_or(first);
        self.problem(setting, message);
    }

    /// Takes one setting; `parse` says what is wrong with a text, `show` writes the value.
    fn take<T>(
        &mut self,
        setting: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let raw = self.raw.remove(setting);
        let place = raw.as_ref().map_or(Place::Default, |raw| raw.place.clone());
        let value = match raw.map(|raw| parse(raw.text.trim())) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(message)) => {
                self.problems.push(Problem {
                    place: place.clone(),
                    setting: Some(setting.to_owned()),
                    message,
                });
                default
            }
        };
        self.effective.push(Effective { setting: setting.to_owned(), value: show(&value), place });
        value
    }

    pub(super) fn duration(
        &mut self,
        setting: &str,
        default: Duration,
        (least, most): (Duration, Duration),
    ) -> Duration {
        let check = |text: &str| {
            let span = parse_duration(text)?;
            if (least..=most).contains(&span) {
                return Ok(span);
            }
            Err(format!("must lie between {} and {}", show_duration(least), show_duration(most)))
        };
        self.take(setting, default, check, |span| show_duration(*span))
    }

    pub(super) fn number(&mut self, setting: &str, default: u32, (least, most): (u32, u32)) -> u32 {
        let check = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("must be a whole number between {least} and {most}"))
        };
        self.take(setting, default, check, ToString::to_string)
    }

    pub(super) fn switch(&mut self, setting: &str, default: bool) -> bool {
        let check = |text: &str| text.parse().map_err(|_| "must be true or false".to_owned());
        self.take(setting, default, check, ToString::to_string)
    }

    pub(super) fn text(&mut self, setting: &str, default: &str) -> String {
        self.take(setting, default.to_owned(), |text| Ok(text.to_owned()), Clone::clone)
    }

    pub(super) fn optional_text(&mut self, setting: &str) -> Option<String> {
        let given = |text: &str| Ok((!text.is_empty()).then(|| text.to_owned()));
        self.take(setting, None, given, |value| value.clone().unwrap_or_default())
    }

    /// A value of one of the `choices`, each with its name.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        setting: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let check = |text: &str| {
            let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("must be {}", names.join(" or "))
            })
        };
        let name = |value: &T| {
            choices.iter().find(|(_, v)| v == value).map_or(String::new(), |(n, _)| (*n).to_owned())
        };
        self.take(setting, default, check, name)
    }

    /// A value that its own type can read; `example` shows how it is written.
    pub(super) fn parsed<T: FromStr + ToString>(
        &mut self,
        setting: &str,
        default: T,
        example: &str,
    ) -> T {
        let check = |text: &str| text.parse().map_err(|_| format!("must look like {example}"));
        self.take(setting, default, check, ToString::to_string)
    }

    /// A list whose members `check` accepts or complains about.
    pub(super) fn list<T>(
        &mut self,
        setting: &str,
        default: &[&str],
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let shown = self.take(
            setting,
            default.iter().map(|part| (*part).to_owned()).collect(),
            |text| Ok(split_list(text)),
            |parts: &Vec<String>| parts.join(","),
        );
        let mut values = Vec::with_capacity(shown.len());
        for part in shown {
            match check(&part) {
                Ok(value) => values.push(value),
                Err(message) => self.problem(setting, &message),
            }
        }
        values
    }

    /// A secret: given itself, or as `…_file` the path of a file whose first line it is. Never shown.
    pub(super) fn secret(&mut self, setting: &str) -> Option<String> {
        self.take_file(setting);
        self.take_secret(setting, |_| "***".to_owned())
    }

    /// What `…_file` names, as if it had been given itself.
    fn take_file(&mut self, setting: &str) {
        let file = self.raw.remove(&format!("{setting}_file"));
        if let Some(file) = file {
            if let Some(given) = self.raw.get(setting) {
                // Of two places the later one wins; of one place, neither.
                if given.place.layer() > file.place.layer() {
                    return;
                }
                if given.place.layer() == file.place.layer() {
                    self.problems.push(Problem {
                        place: file.place,
                        setting: Some(format!("{setting}_file")),
                        message: format!("{setting} is given too: give one of them"),
                    });
                    return;
                }
            }
            let path = PathBuf::from(file.text.trim());
            match self.text_of(&path) {
                Ok(text) => {
                    let line = text.lines().next().unwrap_or_default().to_owned();
                    self.set(setting, line, Place::File(path, 0));
                }
                Err(cause) => self.problems.push(Problem {
                    place: file.place,
                    setting: Some(format!("{setting}_file")),
                    message: format!("cannot read {}: {cause}", file.text),
                }),
            }
        }
    }

    /// A URL that may hold a password, and so may come from a file; only the password is hidden.
    pub(super) fn url(&mut self, setting: &str) -> Option<String> {
        self.take_file(setting);
        self.take_secret(setting, hide_password)
    }

    fn take_secret(&mut self, setting: &str, show: impl Fn(&str) -> String) -> Option<String> {
        let given = |text: &str| Ok((!text.is_empty()).then(|| text.to_owned()));
        self.take(setting, None, given, |value| value.as_deref().map(show).unwrap_or_default())
    }

    /// What counts, and everything that is wrong; what nobody took is unknown.
    pub(super) fn finish(mut self) -> (Vec<Effective>, Vec<Problem>) {
        for (setting, raw) in std::mem::take(&mut self.raw) {
            let near = self
                .effective
                .iter()
                .map(|effective| effective.setting.as_str())
                .filter(|known| distance(known, &setting) <= 3)
                .min_by_key(|known| distance(known, &setting));
            let hint = near.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            self.problems.push(Problem {
                place: raw.place,
                setting: Some(setting),
                message: format!("unknown setting{hint}"),
            });
        }
        (self.effective, self.problems)
    }
}

/// `scheme://user:password@rest` with stars for the password.
fn hide_password(url: &str) -> String {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (login, rest) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{rest}"))
    });
    parts.unwrap_or_else(|| url.to_owned())
}

fn show_toml(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Array(parts) => {
            let parts: Option<Vec<String>> =
                parts.iter().map(|part| show_toml(part.get_ref())).collect();
            Some(parts?.join(","))
        }
        _ => None,
    }
}

/// Levenshtein's distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (left + 1).min(above + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
/// Whether Kubernetes sets that variable, after `PASSMINT_`, where a Service is called `passmint`: for programs
/// that find each other as containers did that were linked. No setting is called like that.
fn is_of_kubernetes(rest: &str) -> bool {
    let of_a_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
        let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
        number && protocol && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
    };
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest.strip_prefix("PORT_").is_some_and(of_a_port)
}

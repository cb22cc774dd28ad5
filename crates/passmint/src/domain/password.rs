//! What is asked of a new password (NIST SP 800-63B-4 section 3.1.1.2, ASVS 5.0 chapter 6.2): length, and
//! that it is not among the first that anybody would try. No composition rules. Passwords that users
//! have already, imported ones too, are never judged.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use aws_lc_rs::digest;
use zxcvbn::Score;

use super::secret::{MAX_TEXT_BYTES, Password};

/// The fewest characters that a password should have that is asked for alone.
pub const RECOMMENDED_LENGTH: u32 = 15;

/// A name counts as the better part of a password when fewer other characters are left.
const LEAST_BESIDE_NAME: usize = 8;
/// Shorter names are in everything.
const LEAST_NAME: usize = 3;

/// Why a new password is refused, in words for the person who chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too few characters.
    #[error("This password is too short: it must have at least {0} characters.")]
    TooShort(usize),
    /// Longer than what is ever hashed.
    #[error("This password is too long: it may have at most {MAX_TEXT_BYTES} bytes.")]
    TooLong,
    /// Not a text that can be typed.
    #[error("This password holds a NUL character.")]
    Nul,
    /// The first thing an attacker tries.
    #[error("This password is the username or the e-mail address, or little more.")]
    Name,
    /// On the operator's list, or among those that were published after a breach.
    #[error("This password is on a list of passwords that are known to attackers.")]
    Blocklisted,
    /// Found in few guesses: a common password, repeats, sequences.
    #[error("This password is easy to guess. {0}")]
    Guessable(String),
}

/// Passwords that nobody may choose, whatever their case. Only hashes of them are held.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blocklist(Arc<HashSet<u64>>);

impl Blocklist {
    /// From a text with one a line.
    pub fn read(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Self(Arc::new(lines.map(fold).collect()))
    }

    fn holds(&self, password: &str) -> bool {
        self.0.contains(&fold(password))
    }
}

impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocklist({})", self.0.len())
    }
}

fn fold(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.to_lowercase().hash(&mut hasher);
    hasher.finish()
}

/// Judges a new password of somebody with those names (username, e-mail address).
pub fn check_new_password(
    password: &Password,
    names: &[&str],
    min_length: usize,
    blocklist: &Blocklist,
) -> Result<(), WeakPassword> {
    let text = password.expose();
    if text.contains('\0') {
        return Err(WeakPassword::Nul);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(WeakPassword::TooLong);
    }
    if text.chars().count() < min_length {
        return Err(WeakPassword::TooShort(min_length));
    }
    if blocklist.holds(text) {
        return Err(WeakPassword::Blocklisted);
    }
    let parts = name_parts(names);
    if is_mostly(text, &parts) {
        return Err(WeakPassword::Name);
    }
    if let Some(unit) = repeated_unit(text) {
        // The number of repetitions makes no password.
        if zxcvbn::zxcvbn(unit, &[]).score() < Score::Three {
            return Err(WeakPassword::Guessable(
                "It repeats itself. Use a few words that do not belong together.".to_owned(),
            ));
        }
    }
    let inputs: Vec<&str> = parts.iter().map(String::as_str).chain(["passmint"]).collect();
    let strength = zxcvbn::zxcvbn(text, &inputs);
    if strength.score() < Score::Two || is_decorated_word(text) || is_well_known(text) {
        return Err(WeakPassword::Guessable(advice(&strength)));
    }
    if is_breached(text) { Err(WeakPassword::Blocklisted) } else { Ok(()) }
}

/// Whether it is among the likeliest of those that were published after breaches, in any case
/// (`data/README.md`).
fn is_breached(text: &str) -> bool {
    /// The first bytes of the SHA-256 of each, in ascending order.
    const KNOWN: &[u8] = include_bytes!("../../data/breached-passwords.bin");
    let (known, _) = KNOWN.as_chunks::<4>();
    let hash = digest::digest(&digest::SHA256, text.to_lowercase().as_bytes());
    hash.as_ref().first_chunk::<4>().is_some_and(|prefix| known.binary_search(prefix).is_ok())
}

/// The shortest text that a password is a repetition of, whole times.
fn repeated_unit(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    (1..=bytes.len() / 2)
        .filter(|length| bytes.len().is_multiple_of(*length) && text.is_char_boundary(*length))
        .find(|length| bytes.chunks(*length).all(|chunk| Some(chunk) == bytes.get(..*length)))
        .and_then(|length| text.get(..length))
}

/// Whether a password is one easy word, once or several times, with digits and signs around it that add
/// little (`Password1234567!`, `Summer2026Summer!`), or digits that do: what rules of "at least a digit and a
/// sign" make people write.
fn is_decorated_word(text: &str) -> bool {
    /// What decoration must have by itself, as a logarithm of guesses, and in characters.
    const LEAST_GUESSES: f64 = 5.0;
    const LEAST_LENGTH: usize = 8;
    /// What digits alone must have.
    const LEAST_OF_DIGITS: f64 = 10.0;
    let plain = text.replace('@', "a").replace('$', "s").replace('0', "o");
    let word = |text: &str| {
        let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default().to_lowercase();
        words.all(|word| word.to_lowercase() == first).then_some(first)
    };
    let Some(core) = word(text).or_else(|| word(&plain)) else { return false };
    let around: String = text.chars().filter(|c| !c.is_alphabetic()).collect();
    let adds = zxcvbn::zxcvbn(&around, &[]).guesses_log10();
    if core.is_empty() {
        return adds < LEAST_OF_DIGITS;
    }
    let little = around.chars().count() < LEAST_LENGTH || adds < LEAST_GUESSES || is_date(&core);
    little && zxcvbn::zxcvbn(&core, &[]).score() <= Score::One
}

/// Whether digits beside that word are a date, which adds little however many they are.
fn is_date(word: &str) -> bool {
    const NAMES: [&str; 23] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "spring",
        "summer",
        "autumn",
        "winter",
    ];
    NAMES.contains(&word)
}

/// Phrases that everybody knows, and runs over a keyboard that look like nonsense.
fn is_well_known(text: &str) -> bool {
    const PHRASES: [&str; 9] = [
        "correcthorsebatterystaple",
        "thequickbrownfox",
        "tobeornottobe",
        "letmeinplease",
        "iloveyouforever",
        "1q2w3e4r5t",
        "zaq12wsx",
        "1qaz2wsx3edc",
        "qwertyuiopasdf",
    ];
    // With and without what the shift key makes of digits.
    let unshifted = |c: char| "!@#$%^&*()".find(c).and_then(|at| "1234567890".chars().nth(at));
    let bare = |text: &str| {
        let text: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
        text.to_lowercase()
    };
    let plain: String = text.chars().map(|c| unshifted(c).unwrap_or(c)).collect();
    [bare(text), bare(&plain)].iter().any(|bare| {
        PHRASES.iter().any(|phrase| bare.contains(phrase) && bare.len() <= phrase.len() + 8)
    })
}

/// The names, what an e-mail address has before its `@`, and the words of all of them; in lower case,
/// the longest first.
fn name_parts(names: &[&str]) -> Vec<String> {
    let mut parts = Vec::new();
    for name in names.iter().map(|name| name.to_lowercase()) {
        if let Some((local, _)) = name.split_once('@') {
            parts.push(local.to_owned());
        }
        parts.extend(name.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
        parts.push(name);
    }
    parts.retain(|part| part.chars().count() >= LEAST_NAME);
    parts.sort_by_key(|part| Reverse(part.len()));
    parts
}

/// Whether little is left of a password without the names, read forwards or backwards.
fn is_mostly(password: &str, names: &[String]) -> bool {
    let password = password.to_lowercase();
    let mut rest = password.clone();
    for name in names {
        let backwards: String = name.chars().rev().collect();
        rest = rest.replace(name, "").replace(&backwards, "");
    }
    rest.len() < password.len() && rest.chars().count() < LEAST_BESIDE_NAME
}

fn advice(strength: &zxcvbn::Entropy) -> String {
    let Some(feedback) = strength.feedback() else {
        return "Use a few words that do not belong together.".to_owned();
    };
    let warning = feedback.warning().map(|warning| warning.to_string());
    let suggestions = feedback.suggestions().iter().map(ToString::to_string);
    warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), WeakPassword> {
        let blocklist = Blocklist::read("Company-Picnic-Summer\n\nother\n");
        let names = ["asha.rao", "asha@example.org"];
        check_new_password(&Password::new(text.into()), &names, 15, &blocklist)
    }

    #[test]
    fn length_counts_in_characters() {
        assert_eq!(check("пароль на стене!!"), Ok(()));
        assert_eq!(check("пароль"), Err(WeakPassword::TooShort(15)));
        assert_eq!(check(&"x".repeat(1025)), Err(WeakPassword::TooLong));
        assert_eq!(check("fifteen char\0ab"), Err(WeakPassword::Nul));
    }

    #[test]
    fn what_anybody_would_try_first_is_refused() {
        let mut passes = Vec::new();
        for guessable in [
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "1234567890123456",
            "abcdefghijklmnopq",
            "passwordpassword",
            "qwertyuiopasdfghjkl",
            "Password1234567!",
            "Qwerty1234567890!",
            "Administrator1!",
            "Login1234567890",
            "correcthorsebatterystaple",
            "thequickbrownfox",
            "zaq12wsxcde34rfv",
            "1q2w3e4r5t6y7u8i",
            "!QAZ2wsx#EDC4rfv",
            "zaq1@WSXcde3$RFV",
            "Summer2026Summer!",
            "december252026!!",
            "November26112026",
            "1111222233334444",
            "tobeornottobethatis",
        ] {
            let Err(why) = check(guessable) else {
                passes.push(guessable);
                continue;
            };
            assert!(matches!(why, WeakPassword::Guessable(_)), "{guessable}: {why}");
            assert!(why.to_string().len() > 60, "no advice: {why}");
        }
        assert!(passes.is_empty(), "{passes:?} pass");
        for name in [
            "asha.rao-asha.rao",
            "Asha.Rao1234567",
            "oar.ahsaoar.ahsa1",
            "asha@example.org",
            "rao-example-asha",
            "Example_Org_2026",
        ] {
            assert_eq!(check(name), Err(WeakPassword::Name), "{name}");
        }
        assert_eq!(check("company-picnic-SUMMER"), Err(WeakPassword::Blocklisted));
        for breached in ["Yfdbufnjh10305070", "doomsayer.2.7mords.v"] {
            assert_eq!(check(breached), Err(WeakPassword::Blocklisted), "{breached}");
        }
    }

    #[test]
    fn no_composition_rules() {
        for good in [
            "correct horse battery",
            "asha likes blue elephants",
            "another-password-9",
            "nineteenelephantsdance",
            "Correct-Horse-7",
            "8404736165289273",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }
}

//! After all other tests: no secret that they handled is in anything that a server wrote.
//!
//! `scripts/test` runs this one alone at the end (it is ignored otherwise).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::kept;

/// Keys that a test made for the server to import are meant to be there.
fn is_key_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "key" || extension == "pem")
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, into);
        } else if path.is_file()
            && !name.contains("master.key")
            && !is_key_file(&path)
            && name != "secret"
        {
            into.push(path);
        }
    }
}

/// Searches for many texts at once: every secret is known by its first bytes.
struct Needles {
    by_head: std::collections::HashMap<[u8; 8], Vec<Vec<u8>>>,
}

impl Needles {
    fn new(secrets: &HashSet<Vec<u8>>) -> Self {
        let mut by_head: std::collections::HashMap<[u8; 8], Vec<Vec<u8>>> =
            std::collections::HashMap::new();
        for secret in secrets {
            let head = secret[..8].try_into().unwrap();
            by_head.entry(head).or_default().push(secret.clone());
        }
        Self { by_head }
    }

    fn find(&self, hay: &[u8]) -> Option<String> {
        for (at, window) in hay.windows(8).enumerate() {
            let Some(secrets) = self.by_head.get(window) else { continue };
            if let Some(found) = secrets.iter().find(|secret| hay[at..].starts_with(secret)) {
                return Some(String::from_utf8_lossy(found).into_owned());
            }
        }
        None
    }
}

/// Every noted secret in the forms in which it could leak. Of a token, its distinctive end.
fn forms(noted: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for secret in noted.lines().filter(|line| line.len() >= 8) {
        if let Some(signature) = secret.rsplit('.').next().filter(|_| secret.starts_with("eyJ")) {
            forms.push(signature.as_bytes().to_vec());
        } else if let Some(body) = secret.strip_prefix("pmr1_") {
            forms.push(body.as_bytes()[20..].to_vec());
        } else {
            forms.push(secret.as_bytes().to_vec());
            if let Ok(raw) = STANDARD.decode(secret)
                && raw.len() == 32
            {
                forms.push(raw);
            }
        }
    }
    forms
}

#[test]
#[ignore = "scripts/test runs it after all others"]
fn no_secret_of_the_whole_run_is_in_logs_databases_metrics_or_refusals() {
    let mut all = Vec::new();
    files(&kept(), &mut all);
    let is_list =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("secrets-");
    let (lists, written): (Vec<PathBuf>, Vec<PathBuf>) = all.into_iter().partition(is_list);
    let noted: String = lists.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let secrets: HashSet<Vec<u8>> = forms(&noted).into_iter().collect();
    assert!(secrets.len() > 1000, "only {} secrets were noted", secrets.len());
    let needles = Needles::new(&secrets);

    let ends = |path: &Path, ending: &str| path.to_string_lossy().ends_with(ending);
    for ending in ["log.jsonl", "passmint.db", "metrics.txt", "refusals.txt"] {
        let count = written.iter().filter(|path| ends(path, ending)).count();
        assert!(count > 10, "only {count} files {ending}");
    }
    for path in &written {
        let found = needles.find(&std::fs::read(path).unwrap());
        assert_eq!(found, None, "{}", path.display());
    }
    // The search itself finds what is there.
    let planted = secrets.iter().next().unwrap();
    assert!(needles.find(&[b"some text ", planted.as_slice(), b" more"].concat()).is_some());
}

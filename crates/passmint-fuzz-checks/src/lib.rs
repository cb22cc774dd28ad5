//! What holds of every input of what reads what others wrote: one module per fuzz target, and what
//! they share.
//!
//! `cargo test` checks the inputs that are kept in `fuzz/corpus/`; `fuzz/run` has libFuzzer make up
//! others. A check asserts: an input that breaks one ends the run. Nothing here is part of the server.

pub mod body;
pub mod caller;
pub mod config;
pub mod form;
pub mod json;
pub mod json_tree;
pub mod jwt;
pub mod multipart;
pub mod password_hash;
pub mod refresh_token;

/// Stands where secrets stand, in the seeds and in the dictionaries. It is in no text of ours, so an
/// answer that holds it quotes its request.
pub const SECRET: &str = "hunter2";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;
    use std::{fs, panic};

    type Check = fn(&[u8]);

    /// The targets by name.
    const TARGETS: [(&str, Check); 8] = [
        ("caller", super::caller::check),
        ("config", super::config::check),
        ("form", super::form::check),
        ("json", super::json::check),
        ("jwt", super::jwt::check),
        ("multipart", super::multipart::check),
        ("password_hash", super::password_hash::check),
        ("refresh_token", super::refresh_token::check),
    ];

    fn fuzz(folder: &str) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz")).join(folder)
    }

    fn names(folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_target_has_a_corpus_and_is_checked_here() {
        let here: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("corpus"), here);
        assert_eq!(names("targets"), here);
    }

    #[test]
    fn every_input_that_is_kept_holds_what_its_target_checks() {
        super::jwt::accepts_what_is_genuine();
        let mut broken = Vec::new();
        for (target, check) in TARGETS {
            let mut inputs = 0;
            for entry in fs::read_dir(fuzz("corpus").join(target)).unwrap() {
                let path = entry.unwrap().path();
                let input = fs::read(&path).unwrap();
                inputs += 1;
                if panic::catch_unwind(|| check(&input)).is_err() {
                    broken.push(path);
                }
            }
            assert!(inputs >= 5, "{target}: {inputs} inputs");
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

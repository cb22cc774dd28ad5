//! Who may know whom (docs/explanation/architecture.md): read from the source, so that it holds.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every file of the server with its path below `src` and its code without comments and tests.
fn rooms() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let code = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), code(path))).collect()
}

/// Nothing in `room` may mention any of `words`.
#[track_caller]
fn never(room: &str, words: &[&str]) {
    let mut seen = 0;
    for (path, code) in rooms().iter().filter(|(path, _)| path.starts_with(room)) {
        seen += 1;
        for word in words {
            assert!(!code.contains(word), "{path} knows {word}");
        }
    }
    assert!(seen > 0, "there is no room {room}");
}

#[test]
fn doors_know_services_and_never_store_or_crypto() {
    for door in ["http/", "admin/"] {
        never(door, &["crate::store", "crate::crypto", "crate::app", "crate::cli", "rusqlite"]);
    }
}

#[test]
fn services_know_no_door_and_no_kind_of_store() {
    let doors = ["crate::http", "crate::admin", "crate::cli", "crate::app"];
    never("service/", &doors);
    never("service/", &["axum", "store::sqlite", "rusqlite", "StatusCode"]);
}

#[test]
fn stores_know_the_domain_and_the_clock() {
    never("store/", &["crate::service", "crate::http", "crate::crypto", "crate::config", "axum"]);
}

#[test]
fn the_domain_knows_nobody() {
    never("domain/", &["crate::", "async ", "SystemTime", "Instant::now", "std::env", "std::fs"]);
}

#[test]
fn crypto_knows_the_domain_only() {
    never("crypto/", &["crate::service", "crate::store", "crate::http", "crate::config", "axum"]);
}

#[test]
fn axum_sql_clock_randomness_and_environment_have_one_room_each() {
    for (path, code) in rooms() {
        let in_any = |rooms: &[&str]| rooms.iter().any(|room| path.starts_with(room));
        // config checks that a header's name is one; nothing is served there.
        if !in_any(&["http/", "admin/", "app/", "config/sections/server.rs"]) {
            assert!(!code.contains("axum"), "{path} knows axum");
        }
        if !in_any(&["store/"]) {
            for word in ["rusqlite", "SELECT ", "INSERT INTO"] {
                assert!(!code.contains(word), "{path} knows SQL ({word})");
            }
        }
        if !in_any(&["clock.rs"]) {
            assert!(!code.contains("SystemTime"), "{path} reads the clock");
        }
        if !in_any(&["crypto/"]) {
            assert!(!code.contains("rand::"), "{path} draws randomness");
        }
        if !in_any(&["config/"]) {
            assert!(!code.contains("env::var"), "{path} reads the environment");
        }
    }
}

#[test]
fn every_room_has_a_plaque() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no plaque", path.display());
    }
}

#[test]
fn files_stay_readable_in_one_sitting() {
    for (path, code) in rooms() {
        let lines = code.lines().count();
        assert!(lines <= 450, "{path} has {lines} lines of code");
    }
}

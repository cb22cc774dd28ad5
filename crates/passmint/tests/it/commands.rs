//! Contract section 9: the operator's commands, with and without a running server.

use std::process::Command;

use serde_json::Value;

use crate::harness::{PASSMINT, PASSWORD, Server, run_with_input};

#[test]
fn users_are_managed_while_the_server_runs_and_it_notices_at_once() {
    let server = Server::start();
    let id =
        server.add_user_with("asha", &["--email", "a@example.com", "--role", "clerk"], PASSWORD);
    let pair = server.login("asha");
    let shown: Value =
        serde_json::from_str(&server.must(&["user", "show", "asha", "--json"])).unwrap();
    assert_eq!((&shown["id"], &shown["username"]), (&id.into(), &"asha".into()));
    assert_eq!(shown["roles"], serde_json::json!(["clerk"]));
    server.must(&["user", "set", "asha", "--role", "b", "--role", "a", "--role", "b"]);
    assert!(server.must(&["user", "show", "asha"]).contains("roles        b,a\n"), "each once");
    server.must(&["user", "set", "asha", "--no-roles", "org_id=7", "name=x=y"]);
    let shown: Value =
        serde_json::from_str(&server.must(&["user", "show", "asha", "--json"])).unwrap();
    assert_eq!(shown["claims"], serde_json::json!({"org_id": 7, "name": "x=y"}));
    assert_eq!(shown["roles"], serde_json::json!([]));
    server.must(&["user", "set", "asha", "org_id="]);
    assert!(!server.must(&["user", "show", "asha"]).contains("org_id"));
    server.must(&["user", "disable", "asha"]);
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    server.must(&["user", "enable", "asha"]);
    server.login("asha");
    server.must(&["user", "delete", "asha"]);
    assert_eq!(server.try_login("asha", PASSWORD).status, 206);
    let again = server.add_user("asha");
    assert!(again > id, "ids are never reused");
}

#[test]
fn commands_work_without_a_server_too() {
    let mut server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    server.stop();
    server.must(&["session", "end", &pair.session()]);
    server.add_user("bela");
    let listed: Value = serde_json::from_str(&server.must(&["user", "list", "--json"])).unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["asha", "bela"]);
    server.start_again();
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    server.login("bela");
}

#[test]
fn a_generated_password_is_printed_once_and_works() {
    let server = Server::start();
    let output = server.run(&["user", "add", "asha"]);
    assert!(output.status.success());
    let password = String::from_utf8(output.stdout).unwrap();
    assert_eq!(password.trim().len(), 20, "{password}");
    server.login_with("asha", password.trim());
    let output = server.run(&["user", "passwd", "asha"]);
    let second = String::from_utf8(output.stdout).unwrap();
    assert_eq!(server.try_login("asha", password.trim()).status, 206);
    server.login_with("asha", second.trim());
}

#[test]
fn sessions_are_listed_and_explained() {
    let server = Server::start();
    server.add_user("asha");
    let (live, ended) = (server.login("asha"), server.login("asha"));
    server.must(&["session", "end", &ended.session()]);
    let list = |options: &[&str]| -> Vec<Value> {
        let arguments = [&["session", "list", "asha", "--json"], options].concat();
        serde_json::from_str(&server.must(&arguments)).unwrap()
    };
    assert_eq!(list(&[]).len(), 1);
    assert_eq!(list(&[])[0]["id"], live.session());
    assert_eq!(list(&["--ended"]).len(), 2);
    let text = server.must(&["session", "explain", &ended.session()]);
    assert!(text.contains("An operator ended it."), "{text}");
    let text = server.must(&["session", "explain", &live.session()]);
    assert!(text.contains("It is live"), "{text}");
    for (id, part) in [
        ("nonsense", "no session id"),
        ("01890000-0000-7000-8000-000000000000", "there is no session"),
    ] {
        let output = server.run(&["session", "explain", id]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(part));
    }
}

#[test]
fn exit_codes_tell_done_failed_and_usage_apart() {
    let server = Server::start();
    assert_eq!(server.run(&["user", "list"]).status.code(), Some(0));
    assert_eq!(server.run(&["user", "show", "nobody"]).status.code(), Some(1));
    for usage in
        [&["user", "frobnicate"] as &[&str], &["user"], &["session", "end"], &["--nonsense"]]
    {
        let output = server.run(usage);
        assert_eq!(output.status.code(), Some(2), "{usage:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn weak_and_bad_input_is_refused_by_name() {
    let server = Server::start();
    let add = |name: &str, password: &str| {
        let output = server.run_with_input(&["user", "add", name, "--password-stdin"], password);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(add("asha", "short\n").contains("at least 15 characters"));
    assert!(add("asha", "\n").contains("no password in its first line"));
    assert!(add("a-name-of-15-ch", "a-name-of-15-ch").contains("is the username"));
    let output = server.run(&["user", "add", "asha", "--role", "a,b"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no name for a role"));
    assert_eq!(server.run(&["user", "set", "asha"]).status.code(), Some(2), "nothing to set");
}

#[test]
fn completions_and_man_pages_are_made() {
    let server = Server::start();
    assert!(server.must(&["completions", "bash"]).contains("_passmint"));
    let folder = server.data.join("man");
    server.must(&["man", folder.to_str().unwrap()]);
    let page = std::fs::read_to_string(folder.join("passmint-user-add.1")).unwrap();
    assert!(page.contains("password\\-stdin"), "{page}");
}

#[test]
fn db_migrate_works_beside_a_server_and_a_newer_database_is_refused() {
    let mut server = Server::start();
    let output = server.run(&["db", "migrate"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the running server saw to it"));
    server.stop();
    let output = server.run(&["db", "migrate"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("up to date"));
    let python =
        "import sqlite3,sys;sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version=99')";
    let database = server.data.join("passmint.db");
    assert!(
        std::process::Command::new("python3")
            .args(["-c", python])
            .arg(&database)
            .status()
            .unwrap()
            .success()
    );
    let output = server.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run the newer Passmint"));
}

#[test]
fn the_version_is_told() {
    let output = std::process::Command::new(PASSMINT).arg("--version").output().unwrap();
    let version = concat!("passmint ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn commands_bear_strange_surroundings() {
    use std::os::unix::ffi::OsStrExt as _;
    let server = Server::start();
    let mut command = server.command();
    command.env("FOO", std::ffi::OsStr::from_bytes(b"\xff")).args(["user", "list"]);
    assert!(command.output().unwrap().status.success());
    for arguments in ["config print", "completions bash"] {
        let mut command = Command::new("bash");
        let line = format!("set -o pipefail; '{PASSMINT}' {arguments} | true");
        let output = command.arg("-c").arg(line).current_dir(&server.data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let empty = crate::harness::fresh_folder("empty");
    let output =
        Command::new(PASSMINT).args(["user", "list", "--data"]).arg(&empty).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no database at"));
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_session_id_that_is_a_token_is_not_echoed() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let output = server.run(&["session", "explain", &pair.refresh_token]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&output.stderr).contains(&pair.refresh_token));
}

#[test]
fn claims_and_roles_are_bounded_and_numbers_stay_what_they_are() {
    let server = Server::start();
    server.add_user("asha");
    let set = server.must(&["user", "set", "asha", "n=998877665544332211009", "m=7", "--json"]);
    let shown: Value = serde_json::from_str(&set).unwrap();
    assert_eq!(shown["claims"], serde_json::json!({"n": "998877665544332211009", "m": 7}));
    let mut arguments = vec!["user".to_owned(), "set".to_owned(), "asha".to_owned()];
    for number in 0..40 {
        arguments.extend(["--role".to_owned(), format!("{number:060}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = server.run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at most 2048 bytes together"));
}

#[test]
fn what_is_said_to_nobody_stops_no_command() {
    let server = Server::start();
    let run = |arguments: &[&str], input: &str| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = run_with_input(server.command().stderr(full), arguments, input);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, password) = run(&["user", "add", "asha"], "");
    assert_eq!((code, password.trim().len()), (Some(0), 20), "{password}");
    server.login_with("asha", password.trim());
    let users = r#"{"username":"bela","password_hash":"!"}"#;
    assert_eq!(run(&["user", "import", "-"], users).0, Some(0));
    assert_eq!(run(&["user", "disable", "bela"], "").0, Some(0));
    assert_eq!(run(&["user", "show", "nobody"], "").0, Some(1));
}

#[test]
fn what_a_deleted_user_did_is_found_by_its_name() {
    let server = Server::start();
    for name in ["asha", "bela"] {
        server.add_user(name);
        server.must(&["user", "delete", name]);
    }
    server.add_user("bela");
    let events = |name: &str| {
        let listed = server.must(&["audit", "list", "--json", "--user", name]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let event = |record: &serde_json::Value| record["event"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(event).collect::<Vec<_>>()
    };
    assert_eq!(events("asha"), ["user.deleted", "user.added"]);
    assert_eq!(events("bela"), ["user.added"], "the one that has the name now");
    let unknown = server.run(&["audit", "list", "--user", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn what_cannot_be_written_to_standard_output_is_an_error() {
    let server = Server::start();
    server.add_user("asha");
    let session = server.login("asha").session();
    for arguments in [
        &["user", "list"][..],
        &["user", "list", "--json"],
        &["user", "show", "asha"],
        &["user", "passwd", "asha"],
        &["user", "passwd", "asha", "--json"],
        &["user", "add", "bela"],
        &["session", "list", "asha"],
        &["session", "explain", &session],
        &["key", "list"],
        &["key", "rotate"],
        &["audit", "list"],
        &["audit", "export"],
        &["audit", "verify"],
        &["config", "print"],
        &["doctor"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = server
            .command()
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(full)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        if arguments.len() > 1 {
            assert!(
                errors.contains("cannot write to standard output: No space"),
                "{arguments:?}: {errors}"
            );
        }
    }
    // A password that nobody saw was not set, also where the reader has gone.
    let line = format!("set -o pipefail; '{PASSMINT}' --data . user passwd asha </dev/null | true");
    let output =
        Command::new("bash").arg("-c").arg(line).current_dir(&server.data).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    server.login("asha");
    let shown = server.must(&["user", "passwd", "asha"]);
    server.login_with("asha", shown.trim());
    let strict = Server::start_with(&[("PASSWORD__MIN_LENGTH", "40")]);
    strict.must(&["user", "add", "asha"]);
    let shown = strict.must(&["user", "passwd", "asha"]);
    strict.login_with("asha", shown.trim());
    let nobody = server.run(&["user", "passwd", "nobody"]);
    assert_eq!((nobody.status.code(), nobody.stdout.as_slice()), (Some(1), &b""[..]));
}

//! `passmint user import`: every user of the file is taken over or named as refused.

use std::time::{Duration, Instant};

use crate::harness::Server;

/// The password `correct horse`, as Django writes it down.
const HASH: &str = "pbkdf2_sha256$1000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=";

/// Exit code and standard error of an import of `text`.
fn import(server: &Server, options: &[&str], text: &str) -> (Option<i32>, String) {
    let arguments = [&["user", "import", "-"], options].concat();
    let output = server.run_with_input(&arguments, text);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn users_come_over_from_django_with_ids_and_passwords() {
    let server = Server::start();
    let dump = r#"[{"model":"auth.user","pk":41,"fields":{"username":"ravi","email":"r@example.org",
        "password":"pbkdf2_sha256$1000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=",
        "is_active":true,"groups":[["staff"]],"date_joined":"2020-01-02T03:04:05Z"}}]"#;
    std::fs::write(server.data.join("dump.json"), dump).unwrap();
    server.must(&["user", "import", "dump.json"]);
    let claims = server.login_with("ravi", "correct horse").claims();
    assert_eq!((&claims["sub"], &claims["user_id"]), (&"41".into(), &41.into()));
    assert_eq!(claims["roles"], serde_json::json!(["staff"]));
    server.login_with("ravi", "correct horse");

    let uuid = "6f1c0de2-0f5f-4f0e-9c39-9f7b1f0a7a11";
    let lines = format!(
        "{{\"id\":\"{uuid}\",\"username\":\"noor\",\"password_hash\":\
         \"argon2$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$bIKRw3Ua1pluirFy81fnppmR01EnUxY3hLEBwbWxBG8\"}}\n\
         {{\"username\":\"mira\",\"password_hash\":\"md5$a$5ecre7\"}}\n"
    );
    let again = format!("{lines}{{\"id\":\"{uuid}\",\"username\":\"omar\"}}\n");
    let output = server.run_with_input(&["user", "import", "--dry-run", "-"], &again);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("line 2: its password hash (md5)"), "{errors}");
    assert!(errors.contains("line 3: its id is that of line 1, too"), "{errors}");
    assert!(
        errors.contains("1 user would be imported, 0 would be there already, 2 would be refused"),
        "{errors}"
    );
    let output = server.run_with_input(&["user", "import", "-"], &lines);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "one is refused");
    assert!(errors.contains("line 2: its password hash (md5)"), "{errors}");
    assert!(errors.contains("1 user imported, 0 there already, 1 refused"), "{errors}");
    let pair = server.login_with("noor", "correct horse");
    assert_eq!(pair.claims()["user_id"], uuid);
    assert_eq!(pair.claims()["sub"], uuid);
    let me = server.me(&pair.token);
    assert_eq!(me.json()["id"], uuid);
    server.must(&["user", "disable", "noor"]);
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
}

#[test]
fn a_user_who_is_there_under_another_id_or_spelling_is_refused_and_the_dry_run_says_so() {
    let server = Server::start();
    server.add_user("alice");
    let lines = r#"{"username":"noid"}
{"id":57,"username":"alice"}
{"id":58,"username":"Alice"}
{"id":1,"username":"mallory"}
{"id":70,"username":"User3"}
{"id":71,"username":"user3"}
{"id":2,"username":"second"}
{"id":1,"username":"alice"}
"#;
    let refusals = [
        r#"line 2: "alice" is there already with the id 1 instead of 57: services know users by their id"#,
        r#"line 3: its username "Alice" is that of line 2, too"#,
        r#"line 4: its id is that of "alice"; import into a new folder first, and add others after it (user "mallory")"#,
        r#"line 6: its username "user3" is that of line 5, too"#,
    ];
    let (code, said) = import(&server, &["--dry-run"], lines);
    assert_eq!(code, Some(1), "{said}");
    for refusal in refusals {
        assert!(said.contains(refusal), "{refusal}\n{said}");
    }
    let (code, done) = import(&server, &[], lines);
    assert_eq!(code, Some(1), "{done}");
    let refused = |said: &str| -> Vec<String> {
        said.lines().filter(|line| line.starts_with("line ")).map(str::to_owned).collect()
    };
    assert_eq!(refused(&done), refused(&said), "the dry run says what the import does");
    assert!(
        said.contains("3 users would be imported, 0 would be there already, 5 would be"),
        "{said}"
    );
    assert!(done.contains("3 users imported, 0 there already, 5 refused"), "{done}");
    // The one without an id did not take that of the second.
    assert!(server.must(&["user", "show", "second", "--json"]).contains("\"id\": 2"));
    let (code, said) =
        import(&server, &[], "{\"id\":1,\"username\":\"alice\"}\n{\"username\":\"User3\"}");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0 users imported, 2 there already, 0 refused"), "{said}");
    let (code, said) = import(&server, &[], "{\"username\":\"ALICE\"}");
    assert_eq!(code, Some(1));
    assert!(
        said.contains(r#""ALICE" differs only in case from "alice", who is there already"#),
        "{said}"
    );
}

#[test]
fn groups_by_number_are_refused_or_mapped_and_flags_are_told() {
    let server = Server::start();
    let dump = format!(
        r#"[{{"model":"auth.user","pk":41,"fields":{{"username":"ravi","password":"{HASH}",
        "groups":[4],"is_staff":true,"is_superuser":true,"user_permissions":[7]}}}}]"#
    );
    let (code, said) = import(&server, &[], &dump);
    assert_eq!(code, Some(1));
    assert!(said.contains("entry 1: its group 4 has no name in this file"), "{said}");
    assert!(said.contains("--group 4=ROLE"), "{said}");
    let options = ["--group", "4=billing", "--staff-role", "staff"];
    let (code, said) = import(&server, &options, &dump);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is_superuser of 1 user is not taken over"), "{said}");
    assert!(said.contains("user_permissions of 1 user is not taken over"), "{said}");
    assert!(!said.contains("is_staff"), "{said}");
    let claims = server.login_with("ravi", "correct horse").claims();
    assert_eq!(claims["roles"], serde_json::json!(["billing", "staff"]));
    let more = ["--group", "4=billing", "--superuser-role", "root"];
    let (code, said) = import(&server, &more, &dump);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("Not taken over, since they are there already: the roles of 1 user."),
        "{said}"
    );
}

#[test]
fn ten_thousand_equal_hashes_are_measured_once() {
    let server = Server::start();
    // So dear that the measurement goes on while the batches come in.
    let hash = HASH.replace("$1000$", "$400000$");
    let line =
        |number| format!("{{\"username\":\"user-{number}\",\"password_hash\":\"{hash}\"}}\n");
    let lines: String = (0..10_000).map(line).collect();
    let (code, said) = import(&server, &[], &lines);
    assert_eq!(code, Some(0), "{said}");
    let hashes = || {
        let metrics = server.metrics();
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix("passmint_hash_duration_seconds_count "));
        count.unwrap().parse::<u32>().unwrap()
    };
    let began = Instant::now();
    while hashes() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it was never measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(hashes(), 1, "once");
        std::thread::sleep(Duration::from_millis(100));
    }
}

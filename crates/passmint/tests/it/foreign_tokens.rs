//! Tokens of an imported secret: believed who they are for, and nothing else.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Server, get, post};

const SECRET: &str = "kq83-nfu2-9dd1-xx0p-77aa-zi4m-secret";

/// A token as whoever knows the secret can make it.
fn token(header: &Value, claims: &Value) -> String {
    let python = format!(
        "import hmac,hashlib,base64;b=lambda x:base64.urlsafe_b64encode(x).rstrip(b'=');\
         m=b(b'''{header}''')+b'.'+b(b'''{claims}''');\
         print((m+b'.'+b(hmac.new(b'{SECRET}',m,hashlib.sha256).digest())).decode())"
    );
    let output = Command::new("python3").args(["-c", &python]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn plain(claims: &Value) -> String {
    token(&json!({"typ": "JWT", "alg": "HS256"}), claims)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A server with that secret to verify with; its `kid`.
fn server() -> (Server, String) {
    let server = Server::start();
    let file = server.data.join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let path = file.to_str().unwrap();
    let imported =
        server.must(&["key", "import", path, "--alg", "HS256", "--verify-only", "--json"]);
    let kid = imported.split('"').find(|part| part.len() > 12 && !part.contains(' '));
    let kid = kid.unwrap_or_else(|| imported.trim()).to_owned();
    (server, kid)
}

fn status(server: &Server, token: &str) -> u16 {
    server.send(get("/forward-auth").jwt(token)).status
}

#[test]
fn names_roles_sessions_and_epochs_in_it_count_for_nothing() {
    let (server, kid) = server();
    let id = server.add_user_with("asha", &["--role", "staff"], crate::harness::PASSWORD);
    let exp = now() + 3600;
    let claims = json!({
        "user_id": id, "username": "root", "roles": ["superuser", "x,admin"], "exp": exp,
        "iat": now(), "uep": u64::MAX, "gen": 7
    });
    let answer = server.send(get("/forward-auth").jwt(&plain(&claims)));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-auth-user"), Some("asha"));
    assert_eq!(answer.header("x-auth-roles"), Some("staff"));
    assert_eq!(answer.header("x-auth-session"), Some(""));

    // A service that asks is given the same.
    let body = json!({ "token": plain(&claims) }).to_string();
    let answer = server.send(post("/api/v1/token-verify/").json(&body)).json();
    let believed = &answer["claims"];
    assert_eq!(
        [&believed["username"], &believed["roles"], &believed["uep"], &believed["exp"]],
        [&json!("asha"), &json!(["staff"]), &Value::Null, &json!(exp)]
    );

    // A victim's session is not touched by whoever names it.
    server.add_user("victim");
    let victim = server.login("victim");
    let named = json!({ "user_id": id, "sid": victim.session(), "exp": exp, "iat": now() });
    server.send(post("/api/v1/logout/").jwt(&plain(&named)));
    assert_eq!(server.me(&victim.token).status, 200);

    // Nothing that this server never signed with is named by kid.
    let full = json!({
        "iss": "passmint", "sub": id.to_string(), "iat": now(), "exp": exp, "jti": "1",
        "sid": victim.session(), "gen": 0, "uep": 0, "token_type": "access"
    });
    let by_kid = token(&json!({"typ": "JWT", "alg": "HS256", "kid": kid}), &full);
    assert_eq!(status(&server, &by_kid), 401);
}

#[test]
fn a_key_that_only_verifies_is_another_services_too() {
    let server = Server::start();
    let id = server.add_user_with("asha", &["--role", "staff"], crate::harness::PASSWORD);
    let script =
        "openssl genrsa -out key.pem 2048 && openssl rsa -in key.pem -pubout -out public.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(&server.data).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = server.data.join("public.pem");
    let import = ["key", "import", public.to_str().unwrap(), "--alg", "RS256", "--verify-only"];
    let kid = server.must(&import).trim().to_owned();

    // All that a token of this server says, and more than its user has.
    let claims = json!({
        "iss": "passmint", "sub": id.to_string(), "iat": now(), "exp": now() + 3600, "jti": "1",
        "sid": "6f1c9cc8-5d5e-4a50-9c8e-0d4f7a7b8c9d", "gen": 0, "uep": u64::MAX,
        "roles": ["superuser"], "username": "root", "token_type": "access"
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": kid});
    let message = format!("{}.{}", part(&header), part(&claims));
    std::fs::write(server.data.join("message"), &message).unwrap();
    let sign = ["dgst", "-sha256", "-sign", "key.pem", "message"];
    let signed = Command::new("openssl").args(sign).current_dir(&server.data).output().unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed.stdout));

    let answer = server.send(get("/forward-auth").jwt(&token));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-auth-user"), Some("asha"));
    assert_eq!(answer.header("x-auth-roles"), Some("staff"));
    server.must(&["user", "disable", "asha"]);
    assert_eq!(status(&server, &token), 401);
}

#[test]
fn its_user_must_be_one_who_may_log_in() {
    let (server, _) = server();
    let id = server.add_user("asha");
    let exp = now() + 3600;
    for (user_id, expected) in [
        (json!(id), 200),
        (json!(999), 401),
        (json!(1.0), 401),
        (json!("01"), 401),
        (json!(-1), 401),
    ] {
        let token = plain(&json!({ "user_id": user_id, "exp": exp, "iat": now() }));
        assert_eq!(status(&server, &token), expected, "{user_id}");
    }
    // One from the future would be good again once an ending of today is past.
    for ahead in ["iat", "orig_iat"] {
        let token = plain(&json!({ "user_id": id, "exp": exp, ahead: now() + 50 }));
        assert_eq!(status(&server, &token), 401, "{ahead}");
    }
    let before = plain(&json!({ "user_id": id, "exp": exp, "iat": now() }));
    let without_iat = plain(&json!({ "user_id": id, "exp": exp }));
    assert_eq!(status(&server, &before), 200);
    server.must(&["user", "disable", "asha"]);
    for token in [&before, &without_iat] {
        assert_eq!(status(&server, token), 401, "disabled");
    }
    server.must(&["user", "enable", "asha"]);
    for token in [&before, &without_iat] {
        assert_eq!(status(&server, token), 401, "ended with all of the user's sessions");
    }
    // Nor does it take a session to end them.
    let lone = server.add_user("lone");
    let token = plain(&json!({ "user_id": lone, "exp": exp, "iat": now() }));
    assert_eq!(status(&server, &token), 200);
    server.must(&["session", "end", "--user", "lone"]);
    assert_eq!(status(&server, &token), 401, "ended by an operator");
    // What the other service issues from then on is good again.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let fresh = plain(&json!({ "user_id": id, "exp": now() + 3600, "iat": now() }));
    assert_eq!(status(&server, &fresh), 200);
}

#[test]
fn a_user_that_came_disabled_is_refused() {
    let (server, _) = server();
    let line = r#"{"id":77,"username":"fired","password_hash":"pbkdf2_sha256$1000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=","disabled":true}"#;
    let imported = server.run_with_input(&["user", "import", "-"], line);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let token = plain(&json!({ "user_id": 77, "exp": now() + 3600, "iat": now() }));
    assert_eq!(status(&server, &token), 401);
}

#[test]
fn a_secret_that_anybody_would_guess_is_refused() {
    let server = Server::start();
    for secret in ["a".repeat(32), " ".repeat(40), "your-256-bit-secret-your-256-bit".to_owned()] {
        let file = server.data.join("weak");
        std::fs::write(&file, &secret).unwrap();
        let output = server.run(&["key", "import", file.to_str().unwrap(), "--alg", "HS256"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("can be guessed"), "{errors}");
    }
}

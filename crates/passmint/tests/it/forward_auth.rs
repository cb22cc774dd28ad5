//! Contract section 4: `/forward-auth`, for proxies.

use crate::harness::{Answer, PASSWORD, Server, get, request};

fn identity(answer: &Answer) -> Vec<&str> {
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    answer.has_common_headers();
    ["x-auth-user-id", "x-auth-user", "x-auth-email", "x-auth-roles", "x-auth-session"]
        .map(|name| answer.header(name).unwrap_or_else(|| panic!("{name} is missing")))
        .to_vec()
}

#[test]
fn says_who_it_is_for_any_method_and_whatever_follows() {
    let server = Server::start();
    let options = ["--email", "a@example.com", "--role", "clerk", "--role", "auditor"];
    let id = server.add_user_with("asha", &options, PASSWORD).to_string();
    let pair = server.login("asha");
    let session = pair.session();
    let expected = [id.as_str(), "asha", "a@example.com", "clerk,auditor", session.as_str()];
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
        for path in
            ["/forward-auth", "/forward-auth/", "/forward-auth/some/path?q=1", "/forward-auth?x=/y"]
        {
            let answer =
                server.send(request(method, path).jwt(&pair.token).header("Origin", "https://x"));
            assert_eq!(identity(&answer), expected, "{method} {path}");
            assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
        }
    }
}

#[test]
fn empty_values_are_there_and_names_are_encoded() {
    let server = Server::start();
    server.add_user("j\u{f6}rg 100%");
    let pair = server.login("j\u{f6}rg 100%");
    let answer = server.send(get("/forward-auth").jwt(&pair.token).header("X-Auth-User", "evil"));
    assert_eq!(identity(&answer)[1..4], ["j%C3%B6rg%20100%25", "", ""]);
}

#[test]
fn refusals_are_those_of_every_other_call() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let answer = server.send(get("/forward-auth/x").header("X-Auth-User", "evil"));
    answer.is_unauthorized("Authentication credentials were not provided.");
    assert_eq!(answer.header("x-auth-user"), None);
    server.must(&["user", "disable", "asha"]);
    let answer = server.send(get("/forward-auth").jwt(&pair.token));
    answer.is_unauthorized("Token has been revoked.");
}

#[test]
fn roles_can_be_asked_for() {
    let server = Server::start();
    server.add_user_with("asha", &["--role", "clerk"], PASSWORD);
    let pair = server.login("asha");
    let ask = |path: &str| server.send(get(path).jwt(&pair.token));
    for path in [
        "/forward-auth-roles/clerk",
        "/forward-auth-roles/admin,clerk/rest/of/it",
        "/forward-auth-roles/clerk/",
        "/forward-auth-roles/cl%65rk/caf%e9",
    ] {
        assert_eq!(identity(&ask(path))[3], "clerk", "{path}");
    }
    let forbidden = r#"{"detail":"You do not have permission to perform this action."}"#;
    for path in [
        "/forward-auth-roles/admin",
        "/forward-auth-roles/cler",
        "/forward-auth-roles/admin/clerk",
        "/forward-auth-roles/,",
        "/forward-auth-roles/%ff",
    ] {
        ask(path).is_json(403, forbidden);
    }
    let nobody = server.send(get("/forward-auth-roles/clerk"));
    nobody.is_unauthorized("Authentication credentials were not provided.");
}

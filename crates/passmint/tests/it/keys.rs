//! Contract section 5: keys, their rotation, import and revocation.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{PASSWORD, Pair, Server, get, part};

fn jwks(server: &Server) -> Vec<Value> {
    let answer = server.send(get("/.well-known/jwks.json"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    answer.json()["keys"].as_array().unwrap().clone()
}

fn header(pair: &Pair) -> Value {
    serde_json::from_slice(&part(&pair.token, 0)).unwrap()
}

/// Has openssl make a key file, as an operator would.
fn openssl(server: &Server, arguments: &[&str], name: &str) -> PathBuf {
    let path = server.data.join(name);
    let status = Command::new("openssl").args(arguments).arg("-out").arg(&path).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    path
}

fn import(server: &Server, path: &std::path::Path, options: &[&str]) -> String {
    let mut arguments = vec!["key", "import", path.to_str().unwrap()];
    arguments.extend(options);
    server.must(&arguments).trim().to_owned()
}

#[test]
fn the_jwks_has_public_members_only() {
    let server = Server::start();
    server.add_user("asha");
    let keys = jwks(&server);
    assert_eq!(keys.len(), 1);
    let names: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(names, ["kty", "use", "alg", "kid", "crv", "x", "y"]);
    assert_eq!(header(&server.login("asha"))["kid"], keys[0]["kid"]);
}

#[test]
fn a_new_key_is_published_an_hour_before_it_signs() {
    let server = Server::demo(&[]);
    let login = || server.login_with("sample_user", "1234Pass");
    let old = login();
    let kid = server.must(&["key", "rotate"]).trim().to_owned();
    assert_eq!(jwks(&server).len(), 2);
    assert_eq!(header(&login())["kid"], header(&old)["kid"]);
    server.advance("61m");
    let new = login();
    assert_eq!(header(&new)["kid"], kid.as_str(), "turning the clock does what is due");
    assert_eq!(server.me(&old.token).status, 200, "the old key still verifies");
    assert_eq!(server.me(&new.token).status, 200);
    server.advance("25h");
    assert_eq!(jwks(&server).len(), 1);
    assert_eq!(jwks(&server)[0]["kid"], kid.as_str());
}

#[test]
fn rotating_at_once_and_revoking_end_no_session() {
    let server = Server::start();
    server.add_user("asha");
    let first = server.login("asha");
    let waiting = server.must(&["key", "rotate"]).trim().to_owned();
    let output = server.run(&["key", "rotate", "--now"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("{waiting} had not signed yet, and gave way")), "{told}");
    let kid = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let second = server.login("asha");
    assert_eq!(header(&second)["kid"], kid.as_str());
    assert_eq!(server.me(&first.token).status, 200);
    let old = header(&first)["kid"].as_str().unwrap().to_owned();
    let told = server.run(&["key", "revoke", &old]).stderr;
    assert!(String::from_utf8(told).unwrap().contains("the tokens that it signed are refused"));
    server.me(&first.token).is_unauthorized("Error decoding signature.");
    assert_eq!(jwks(&server).len(), 1);
    let again = Pair::of(&server.refresh(&first.refresh_token));
    assert_eq!(server.me(&again.token).status, 200, "the session goes on");
    server.must(&["key", "revoke", &kid]);
    let third = server.login("asha");
    assert_ne!(header(&third)["kid"], kid.as_str());
    for name in ["nonsense", "-wthJ8lud-hiKFKuVvxojWVVgJlyD71SDReUATvsd-0"] {
        let unknown = server.run(&["key", "revoke", name]);
        assert_eq!(unknown.status.code(), Some(1), "{name}");
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("key list"));
    }
    assert!(server.must(&["key", "revoke", "--help"]).contains("KID"));
}

#[test]
fn revoking_a_refresh_key_ends_its_sessions() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let keys: Value = serde_json::from_str(&server.must(&["key", "list", "--json"])).unwrap();
    let refresh = keys.as_array().unwrap().iter().find(|key| key["use"] == "refresh").unwrap();
    server.must(&["key", "revoke", refresh["kid"].as_str().unwrap()]);
    server.refresh(&pair.refresh_token).is_json(206, r#"{"error":"Invalid refresh token"}"#);
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    let explained = server.must(&["session", "explain", &pair.session(), "--json"]);
    assert!(explained.contains("key_revoked"), "{explained}");
    let next = server.login("asha");
    assert_eq!(server.refresh(&next.refresh_token).status, 200);
}

#[test]
fn every_algorithm_signs_and_survives_a_restart() {
    for (algorithm, kty) in [("EdDSA", Some("OKP")), ("RS256", Some("RSA")), ("HS256", None)] {
        let mut server = Server::start_with(&[("KEYS__ALGORITHM", algorithm)]);
        server.add_user("asha");
        let pair = server.login("asha");
        assert_eq!(header(&pair)["alg"], algorithm);
        let keys = jwks(&server);
        assert_eq!(keys.first().map(|key| key["kty"].as_str().unwrap().to_owned()).as_deref(), kty);
        server.stop();
        server.start_again();
        assert_eq!(server.me(&pair.token).status, 200);
        assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    }
}

#[test]
fn keys_in_every_usual_encoding_are_imported() {
    let server = Server::start();
    server.add_user("asha");
    let genpkey = |rest: &[&str], name: &str| {
        openssl(&server, &[&["genpkey", "-algorithm"], rest].concat(), name)
    };
    let p256 = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let sec1 =
        openssl(&server, &["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "sec1.pem");
    let rsa = genpkey(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "rsa.pem");
    let rsa_text = rsa.to_str().unwrap().to_owned();
    let pkcs1 = openssl(&server, &["rsa", "-in", &rsa_text, "-traditional"], "pkcs1.pem");
    for (file, algorithm) in [
        (genpkey(&p256, "p256.pem"), "ES256"),
        (sec1, "ES256"),
        (genpkey(&["ED25519"], "ed25519.pem"), "EdDSA"),
        (rsa, "RS256"),
    ] {
        let kid = import(&server, &file, &["--alg", algorithm]);
        let pair = server.login("asha");
        assert_eq!(
            (&header(&pair)["alg"], &header(&pair)["kid"]),
            (&algorithm.into(), &kid.into())
        );
        assert_eq!(server.me(&pair.token).status, 200, "{}", file.display());
    }
    let again = server.run(&["key", "import", pkcs1.to_str().unwrap(), "--alg", "RS256"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "the same key as PKCS#1");
    for (arguments, name, algorithm) in [
        (vec!["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "v1.pem", "ES256"),
        (vec!["ED25519"], "v2.pem", "EdDSA"),
        (vec!["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "v3.pem", "RS256"),
    ] {
        let private = genpkey(&arguments, name);
        let public = openssl(
            &server,
            &["pkey", "-in", private.to_str().unwrap(), "-pubout"],
            &format!("pub-{name}"),
        );
        let before = jwks(&server).len();
        import(&server, &public, &["--alg", algorithm, "--verify-only"]);
        assert_eq!(jwks(&server).len(), before + 1);
        let refused = server.run(&["key", "import", public.to_str().unwrap(), "--alg", algorithm]);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--verify-only"));
    }
}

#[test]
fn what_is_no_key_of_the_algorithm_is_refused_by_name() {
    let server = Server::start();
    let small = openssl(
        &server,
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
        "small.pem",
    );
    let ed = openssl(&server, &["genpkey", "-algorithm", "ED25519"], "ed.pem");
    let public = openssl(&server, &["pkey", "-in", ed.to_str().unwrap(), "-pubout"], "public.pem");
    let der = openssl(&server, &["pkey", "-in", ed.to_str().unwrap(), "-outform", "DER"], "ed.der");
    let file = |name: &str, content: &str| {
        let path = server.data.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let pem = std::fs::read_to_string(&public).unwrap();
    let unarmoured: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let unarmoured = file("unarmoured", &unarmoured.join("\n"));
    let under_a_password = openssl(
        &server,
        &["pkey", "-in", ed.to_str().unwrap(), "-aes128", "-passout", "pass:any"],
        "encrypted.pem",
    );
    let text = file("text", "short secret\n");
    let jwk = file(
        "jwk",
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    );
    for (file, algorithm, part) in [
        (&small, "RS256", "not a private RS256 key, which is an RSA key of 2,048"),
        (&ed, "ES256", "not a private ES256 key, which is one on the curve P-256"),
        (&under_a_password, "EdDSA", "is encrypted: decrypt it first"),
        (&text, "ES256", "PEM"),
        (&text, "HS256", "32 bytes"),
        // A public key that signs would let everybody sign.
        (&ed, "HS256", "raw secret"),
        (&public, "HS256", "raw secret"),
        (&der, "HS256", "raw secret"),
        (&jwk, "HS256", "raw secret"),
        (&unarmoured, "HS256", "raw secret"),
    ] {
        let output = server.run(&["key", "import", file.to_str().unwrap(), "--alg", algorithm]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn tokens_of_an_existing_django_service_stay_good_on_cut_over() {
    let server = Server::start();
    let id = server.add_user("asha");
    let secret = "django-insecure-0123456789abcdefghijklmnopqrstuvwxyz";
    let file = server.data.join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let now = jiff::Timestamp::now().as_second();
    let legacy = |claims: &str| {
        let python = format!(
            "import hmac,hashlib,base64;b=lambda x:base64.urlsafe_b64encode(x).rstrip(b'=');\
             m=b(b'{{\"typ\":\"JWT\",\"alg\":\"HS256\"}}')+b'.'+b(b'''{claims}''');\
             print((m+b'.'+b(hmac.new(b'{secret}',m,hashlib.sha256).digest())).decode())"
        );
        let output = Command::new("python3").args(["-c", &python]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let token = legacy(&format!(
        r#"{{"user_id":{id},"username":"asha","exp":{},"email":"","orig_iat":{now}}}"#,
        now + 3600
    ));
    server.me(&token).is_unauthorized("Error decoding signature.");
    import(&server, &file, &["--alg", "HS256", "--verify-only"]);
    assert_eq!(server.me(&token).status, 200, "{token}");
    assert!(jwks(&server).iter().all(|key| key["kty"] != "oct"), "never a symmetric key");
    let long = legacy(&format!(r#"{{"user_id":{id},"username":"asha","exp":{}}}"#, now + 90_000));
    server.me(&long).is_unauthorized("Error decoding signature.");
    let refresh =
        legacy(&format!(r#"{{"user_id":{id},"token_type":"refresh","exp":{}}}"#, now + 3600));
    server.me(&refresh).is_unauthorized("Error decoding signature.");
    server.must(&["user", "disable", "asha"]);
    server.must(&["user", "enable", "asha"]);
    server.me(&token).is_unauthorized("Token has been revoked.");
}

/// Two keys of one secret would be one only by name: who revokes one would think it gone.
#[test]
fn one_shared_secret_is_one_key_and_can_be_promoted() {
    let server = Server::start();
    server.add_user("asha");
    let file = server.data.join("secret");
    std::fs::write(&file, "kq83-nfu2-9dd1-xx0p-77aa-zi4m-secret").unwrap();
    let quoted = server.data.join("quoted");
    std::fs::write(&quoted, "'kq83-nfu2-9dd1-xx0p-77aa-zi4m-secret'\n").unwrap();
    let path = quoted.to_str().unwrap();
    assert_eq!(server.run(&["key", "import", path, "--alg", "HS256"]).status.code(), Some(1));
    let kid = import(&server, &file, &["--alg", "HS256", "--verify-only"]);
    let refused = |options: &[&str]| {
        let path = file.to_str().unwrap();
        let output = server.run(&[&["key", "import", path, "--alg", "HS256"], options].concat());
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("this key is there already, as {kid}")), "{error}");
    };
    refused(&["--verify-only"]);
    assert_eq!(import(&server, &file, &["--alg", "HS256"]), kid);
    refused(&[]);
    refused(&["--verify-only"]);
    let pair = server.login("asha");
    assert_eq!(header(&pair)["kid"], kid.as_str());
    assert_eq!(server.me(&pair.token).status, 200);
    let keys: Value = serde_json::from_str(&server.must(&["key", "list", "--json"])).unwrap();
    let shared = keys.as_array().unwrap().iter().filter(|key| key["algorithm"] == "HS256");
    assert_eq!(shared.map(|key| &key["state"]).collect::<Vec<_>>(), ["signing"]);
    server.must(&["key", "revoke", &kid]);
    server.me(&pair.token).is_unauthorized("Error decoding signature.");
}

#[test]
fn a_key_that_only_verifies_signs_once_its_private_part_is_imported() {
    let server = Server::start();
    server.add_user("asha");
    let private = openssl(&server, &["genpkey", "-algorithm", "ED25519"], "later.pem");
    let path = private.to_str().unwrap();
    let public = openssl(&server, &["pkey", "-in", path, "-pubout"], "first.pem");
    let kid = import(&server, &public, &["--alg", "EdDSA", "--verify-only"]);
    assert_eq!(import(&server, &private, &["--alg", "EdDSA"]), kid);
    let pair = server.login("asha");
    assert_eq!(header(&pair)["kid"], kid.as_str());
    assert_eq!(server.me(&pair.token).status, 200);
    assert_eq!(jwks(&server).iter().filter(|key| key["kid"] == kid.as_str()).count(), 1);
}

/// A refresh key verifies for as long as refresh tokens live, and a refreshed session leaves it.
#[test]
fn a_refresh_key_stays_as_long_as_its_tokens_and_sessions_move_on_to_the_next() {
    let server = Server::demo(&[("KEYS__ROTATE_EVERY", "2h")]);
    let login = || server.login_with("sample_user", "1234Pass");
    let (moving, staying) = (login(), login());
    // Published, then in use.
    server.advance("2h");
    server.advance("61m");
    let keys: Value = serde_json::from_str(&server.must(&["key", "list", "--json"])).unwrap();
    let retired = |use_: &str| {
        let is_it = |key: &&Value| key["use"] == use_ && key["state"] == "verifying";
        keys.as_array().unwrap().iter().find(is_it).unwrap()
    };
    let until =
        |key: &Value| -> jiff::Timestamp { key["state_at"].as_str().unwrap().parse().unwrap() };
    let longer = until(retired("refresh")).duration_since(until(retired("signing")));
    assert_eq!(longer.as_hours(), 29 * 24, "30 days and one: the lifetimes of both tokens");

    let moved = server.refresh(&moving.refresh_token);
    assert_eq!(moved.status, 200);
    server.must(&["key", "revoke", retired("refresh")["kid"].as_str().unwrap()]);
    assert_eq!(server.refresh(&Pair::of(&moved).refresh_token).status, 200);
    assert_eq!(server.refresh(&staying.refresh_token).status, 206);
}

#[test]
fn an_imported_signing_key_is_not_retired_by_one_that_waited() {
    let server = Server::demo(&[]);
    server.must(&["key", "rotate"]);
    let file = server.data.join("secret");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let kid = import(&server, &file, &["--alg", "HS256"]);
    // With a round of maintenance.
    server.advance("2h");
    assert_eq!(header(&server.login_with("sample_user", "1234Pass"))["kid"], kid.as_str());
}

#[test]
fn no_session_is_stored_under_a_refresh_key_that_is_gone() {
    let server = Server::start_with(&[("HASHING__MEMORY_KIB", "64")]);
    server.add_user("asha");
    let refresh_key = || {
        let keys: Value = serde_json::from_str(&server.must(&["key", "list", "--json"])).unwrap();
        let is_refresh = |key: &&Value| key["use"] == "refresh" && key["state"] == "signing";
        keys.as_array().unwrap().iter().find(is_refresh).unwrap()["kid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let pairs: Vec<Pair> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut pairs = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        pairs.push(server.login("asha"));
                    }
                    pairs
                })
            })
            .collect();
        for _ in 0..10 {
            server.must(&["key", "revoke", &refresh_key()]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(pairs.len() > 20, "{}", pairs.len());
    for pair in pairs {
        if server.refresh(&pair.refresh_token).status != 200 {
            let explained = server.must(&["session", "explain", &pair.session(), "--json"]);
            assert!(
                explained.contains("key_revoked") || explained.contains("evicted"),
                "{explained}"
            );
        }
    }
}

#[test]
fn reseal_refuses_to_replace_a_file_that_is_not_in_use() {
    let folder = crate::harness::fresh_folder("reseal");
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let other = "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=";
    std::fs::write(folder.join("master.key"), other).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("master.key"), private).unwrap();
    let mut server = Server::start_on(&folder, &[("MASTER_KEY__VALUE", key)]);
    let mut command = server.command();
    command.env_remove("PASSMINT_MASTER_KEY__VALUE").args(["key", "reseal"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the master key"));
    server.stop();
    server.start_again();
}

#[test]
fn a_reseal_that_was_cut_off_is_completed_by_the_next_start() {
    let mut server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let [master, next, old] =
        ["master.key", "master.key.new", "master.key.old"].map(|name| server.data.join(name));
    // What a full disk left of an earlier try.
    std::fs::write(&next, "").unwrap();
    // Nobody reads what is said, and the key is in its place all the same.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = server.command().args(["key", "reseal"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!next.exists());
    server.stop();
    let resealed = std::fs::read(&master).unwrap();
    // Cut off before the new key was in its place.
    std::fs::rename(&master, &next).unwrap();
    std::fs::rename(&old, &master).unwrap();
    let said = String::from_utf8(server.run(&["doctor"]).stdout).unwrap();
    assert!(said.contains("`key reseal` was cut off"), "{said}");
    server.start_again();
    assert!(server.log().contains("put the new master key in its place"), "{}", server.log());
    assert!(std::fs::read(&master).unwrap() == resealed && old.exists() && !next.exists());
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
}

#[test]
fn keys_are_sealed_under_the_master_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let master = server.data.join("master.key");
    assert_eq!(std::fs::metadata(&master).unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read(&master).unwrap();
    let missing = server.run(&["key", "reseal", "--new-master-key", "nowhere.key"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("nowhere.key does not exist: make it with"), "{error}");
    server.must(&["key", "reseal"]);
    let second = std::fs::read(&master).unwrap();
    server.must(&["key", "reseal"]);
    let old = |name: &str| std::fs::read(server.data.join(name)).unwrap();
    assert!(old("master.key.old") == first, "backups of its time need it");
    assert!(old("master.key.old-2") == second);
    assert_eq!(server.me(&pair.token).status, 200);
    server.stop();
    server.start_again();
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
    server.stop();
    let refused = |server: &Server| {
        let output = server.run(&["serve"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let other = master.with_extension("key.old");
    let good = std::fs::read(&master).unwrap();
    std::fs::copy(&other, &master).unwrap();
    assert!(refused(&server).contains("not the master key"));
    std::fs::remove_file(&master).unwrap();
    assert!(refused(&server).contains("master.key does not exist"));
    std::fs::write(&master, b"bm90IGxvbmcgZW5vdWdo\n").unwrap();
    std::fs::set_permissions(&master, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&server).contains("openssl rand -base64 32"));
    std::fs::write(&master, good).unwrap();
    for open in [0o644, 0o640, 0o604, 0o620, 0o610] {
        std::fs::set_permissions(&master, std::fs::Permissions::from_mode(open)).unwrap();
        assert!(refused(&server).contains("chmod 600"), "{open:o}");
    }
    std::fs::set_permissions(&master, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.start_again();
    assert_eq!(server.try_login("asha", PASSWORD).status, 200);
}

//! Real clients of the original API, with nothing but their base URL changed (`tests/clients`).
//!
//! Their libraries are installed by `scripts/test`; without them these tests fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PASSWORD, Server};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The folder that `scripts/test` installs the clients' libraries into.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    assert!(folder.join("installed").exists(), "run scripts/test: it installs the clients");
    folder
}

#[track_caller]
fn run(program: &Path, script: &str, server: &Server, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.arg(scripts().join(script)).arg(server.url()).args(arguments);
    command.env("PASSMINT_USER", "asha").env("PASSMINT_PASSWORD", PASSWORD);
    command.env("PASSMINT_ISSUER", "passmint").env("PYTHONDONTWRITEBYTECODE", "1");
    // Node finds its modules beside the script or above the working folder, not elsewhere.
    command.current_dir(installed());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}:\n{text}\n{errors}");
    assert!(
        text.lines().filter(|line| line.starts_with("ok: ")).count() > 0,
        "{script} checked nothing"
    );
}

fn python() -> PathBuf {
    installed().join("venv/bin/python")
}

fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(settings);
    server.add_user_with("asha", &["--email", "asha@example.com"], PASSWORD);
    server
}

#[test]
fn python_requests_with_json_data_and_files() {
    run(&python(), "python_client.py", &server(&[]), &[]);
}

#[test]
fn a_client_that_cuts_the_token_out_of_the_text() {
    run(&python(), "abap_cut.py", &server(&[]), &[]);
}

#[test]
fn curl_without_the_slash() {
    run(Path::new("bash"), "curl_client.sh", &server(&[]), &[]);
}

#[test]
fn pyjwt_jose_and_django_verify_by_jwks_for_every_asymmetric_algorithm() {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let server = server(&[("KEYS__ALGORITHM", algorithm)]);
        run(&python(), "pyjwt_verify.py", &server, &[algorithm]);
        run(&python(), "django_check.py", &server, &[algorithm]);
        jose(&server, algorithm);
    }
}

/// Modules are looked up from where a script lies, so the script is copied to where they are.
fn jose(server: &Server, algorithm: &str) {
    let name = format!("jose_verify-{algorithm}.mjs");
    let copy = installed().join(&name);
    std::fs::copy(scripts().join("jose_verify.mjs"), &copy).unwrap();
    run(Path::new("node"), copy.to_str().unwrap(), server, &[algorithm]);
}

//! Nothing that a stranger sends stops the server from answering others, or from stopping.

use std::time::{Duration, Instant};

use crate::harness::{Request, Server, get, post};

fn login(name: &str, from: &str) -> Request {
    let body = serde_json::json!({ "username": name, "password": "wrong" }).to_string();
    post("/api/v1/token-auth/").json(&body).header("X-Forwarded-For", from)
}

/// More parallel wrong logins of one name than the account may have failures, each from a network of
/// its own.
fn more_guesses_than_are_free(server: &Server) -> Vec<u16> {
    std::thread::scope(|scope| {
        let guess = |network: u8| {
            scope.spawn(move || server.send(login("nobody", &format!("203.0.{network}.1"))).status)
        };
        let guesses: Vec<_> = (0..110).map(guess).collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    })
}

#[test]
fn more_parallel_guesses_than_are_free_leave_the_server_alive() {
    for workers in ["1", "2"] {
        let mut server = Server::start_with(&[
            ("THROTTLE__ENABLED", "true"),
            ("SERVER__TRUSTED_PROXIES", "127.0.0.1"),
            ("TOKIO_WORKER_THREADS", workers),
        ]);
        let statuses = more_guesses_than_are_free(&server);
        assert!(statuses.iter().all(|status| [206, 429, 503].contains(status)), "{statuses:?}");
        let asked = Instant::now();
        assert_eq!(get("/healthz").try_send(server.public).unwrap().status, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        let (took, code) = server.stop();
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

//! A URL on this machine that forged tokens name in `jku` and `x5u`. It serves the attacker's key, and
//! notes whether anybody asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::selftest::forge::OwnKey;
use crate::cli::selftest::judgement::{Fault, Judgement};
use crate::cli::selftest::target::Target;

/// See the module. It stops when dropped.
pub(super) struct Bait {
    url: String,
    bites: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Bait {
    /// `None` when no port is to be had.
    pub(super) async fn lay(own: &OwnKey) -> Option<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.ok()?;
        let port = listener.local_addr().ok()?.port();
        let bites = Arc::new(AtomicU32::new(0));
        let body = json!({ "keys": [own.jwk] }).to_string();
        let task = tokio::spawn(serve(listener, Arc::clone(&bites), body));
        Some(Self { url: format!("http://127.0.0.1:{port}/jwks.json"), bites, task })
    }

    /// What to name in a token.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether somebody came.
    pub(super) fn judge(&self, target: &Target) -> Judgement {
        let here = target.host == "localhost"
            || target.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        match self.bites.load(Ordering::SeqCst) {
            0 if here => Ok("nobody came".to_owned()),
            0 => Err(Fault::Untested(
                "would only be seen if the server ran on this machine".to_owned(),
            )),
            bites => Err(Fault::Wrong(format!("{bites} connections to {}", self.url))),
        }
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, bites: Arc<AtomicU32>, body: String) {
    while let Ok((stream, _)) = listener.accept().await {
        bites.fetch_add(1, Ordering::SeqCst);
        // One after the other will do, but nobody may hold the next one up.
        drop(tokio::time::timeout(Duration::from_secs(1), answer(stream, &body)).await);
    }
}

async fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await?;
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bite_is_noted_and_fed() {
        let own = OwnKey::like("ES256").unwrap();
        let bait = Bait::lay(&own).await.unwrap();
        let (here, away) = ("http://127.0.0.1:1", "http://login.example.org");
        let judge = |target: &str| bait.judge(&target.parse().unwrap());
        assert!(judge(here).is_ok());
        assert!(matches!(judge(away), Err(Fault::Untested(_))));
        let address = bait.url().trim_start_matches("http://").trim_end_matches("/jwks.json");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /jwks.json HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&json!({ "keys": [own.jwk] }).to_string()), "{answer}");
        assert!(matches!(judge(away), Err(Fault::Wrong(_))));
    }
}

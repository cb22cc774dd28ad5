//! A client that asks one thing at a time on a connection it keeps, and takes an answer's word for
//! when the connection ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::http;

/// How long an answer may take; much longer than any bound.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection, with nothing under way.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status code.
    pub(crate) status: u16,
    /// `Retry-After` in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The server closes the connection behind this answer.
    pub(crate) closing: bool,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects; the error's kind tells whether nobody listens.
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Reply> {
        self.stream.write_all(request).context("cannot send")?;
        self.buffer.clear();
        let mut chunk = [0; 4096];
        loop {
            let count = self.stream.read(&mut chunk).context("cannot receive")?;
            if count == 0 {
                bail!("the connection was closed before the answer");
            }
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if let Some(answer) = http::parse(&self.buffer)? {
                return Ok(self.reply(&answer));
            }
        }
    }

    fn reply(&self, answer: &http::Answer) -> Reply {
        let head = self.buffer.get(..answer.body.start).unwrap_or_default();
        Reply {
            status: answer.status,
            retry_after: retry_after(head),
            closing: is_last(head),
            body: self.buffer.get(answer.body.clone()).unwrap_or_default().to_vec(),
        }
    }
}

/// The whole seconds of `Retry-After`, when it is there and makes sense (contract section 0: at
/// least 1).
pub(crate) fn retry_after(head: &[u8]) -> Option<u64> {
    let value = http::header(head, b"retry-after:")?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|seconds| *seconds >= 1)
}

/// Whether the server closes the connection behind the answer with this head.
pub(crate) fn is_last(head: &[u8]) -> bool {
    http::header(head, b"connection:").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_reply_says_when_to_come_again_and_whether_on_this_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answers = [
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
                "HTTP/1.1 503 X\r\nretry-after: 3\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            ];
            for answer in answers {
                stream.read_exact(&mut [0; 4]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut client = Client::connect(address).unwrap();
        let reply = client.ask(b"ping").unwrap();
        assert_eq!((reply.status, reply.retry_after, reply.closing), (200, None, false));
        assert_eq!(reply.body, b"hi");
        let reply = client.ask(b"ping").unwrap();
        assert_eq!((reply.status, reply.retry_after, reply.closing), (503, Some(3), true));
        assert!(client.ask(b"ping").is_err());
    }

    #[test]
    fn a_retry_after_of_nothing_does_not_count() {
        for head in ["retry-after: 0", "retry-after: soon", "retry-after: -1", "a: b"] {
            assert_eq!(retry_after(format!("HTTP/1.1 429 X\r\n{head}\r\n\r\n").as_bytes()), None);
        }
    }
}

//! The little HTTP/1.1 that a load generator needs: ready-made request bytes, and an answer's
//! status, length and body. Not a general client: the peers are known to send `Content-Length`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use memchr::{memchr, memmem};

/// How long a single exchange of the set-up may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A complete answer inside a receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Where the body lies in the buffer; its end is the end of the answer.
    pub(crate) body: Range<usize>,
}

/// The bytes of a GET request, with an `Authorization` header if given.
pub(crate) fn get(path: &str, authorization: Option<&str>) -> Vec<u8> {
    let authorization =
        authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n").into_bytes()
}

/// The bytes of a POST request with a JSON body.
pub(crate) fn post_json(path: &str, body: &str) -> Vec<u8> {
    post_json_with(path, "", body)
}

/// The bytes of a POST request with a JSON body and further header lines, each with its end.
pub(crate) fn post_json_with(path: &str, header_lines: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {header_lines}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Looks for a complete answer at the start of `buffer`; `None` while more bytes are needed.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<Answer>> {
    let Some(head_end) = memmem::find(buffer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body_start) = (buffer.get(..head_end).unwrap_or_default(), head_end + 4);
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| decimal(rest.get(..3)?))
        .and_then(|status| u16::try_from(status).ok())
        .context("not an HTTP/1.1 status line")?;
    let length = match content_length(head)? {
        Some(length) => length,
        None if status == 204 => 0,
        None => bail!("an answer without Content-Length (status {status})"),
    };
    let body = body_start..body_start + length;
    Ok((buffer.len() >= body.end).then_some(Answer { status, body }))
}

fn content_length(head: &[u8]) -> Result<Option<usize>> {
    header(head, b"content-length:")
        .map(|value| decimal(value).context("a strange Content-Length"))
        .transpose()
}

/// The value of the first header called `name`, which ends with its colon, in an answer's head.
pub(crate) fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(end) = memchr(b'\n', rest) {
        rest = rest.get(end + 1..).unwrap_or_default();
        let (found, value) = rest.split_at_checked(name.len())?;
        if found.eq_ignore_ascii_case(name) {
            return value.split(|byte| *byte == b'\r').next().map(<[u8]>::trim_ascii);
        }
    }
    None
}

fn decimal(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The text of a JSON string member, found by scanning for its key, such as `"token":"`.
///
/// Enough for tokens (no escapes) in the compact JSON that the contract promises.
pub(crate) fn scan_string<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let rest = body.get(memmem::find(body, key)? + key.len()..)?;
    rest.get(..memchr(b'"', rest)?)
}

/// Sends one request on a connection of its own and waits for the answer: status and body.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
    stream.write_all(request).context("cannot send")?;
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).context("cannot receive")?;
        buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some(answer) = parse(&buffer)? {
            return Ok((answer.status, buffer.get(answer.body).unwrap_or_default().to_vec()));
        }
        if count == 0 {
            bail!("connection closed in the middle of an answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_only_with_its_last_byte() {
        let bytes = b"HTTP/1.1 206 Partial Content\r\nA: b\r\ncontent-length: 5\r\n\r\nhello";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]).unwrap(), None, "{end}");
        }
        let answer = parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, &bytes[answer.body]), (206, b"hello".as_slice()));
    }

    #[test]
    fn an_answer_without_a_length_is_refused_unless_it_can_have_no_body() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().status, 204);
    }

    #[test]
    fn a_header_is_found_by_its_whole_name() {
        let head = b"HTTP/1.1 503 X\r\nX-Retry-After: 9\r\nretry-after:  2 \r\na: b\r\n\r\n";
        assert_eq!(header(head, b"Retry-After:"), Some(b"2".as_slice()));
        assert_eq!(header(head, b"after:"), None);
        assert_eq!(header(head, b"connection:"), None);
    }

    #[test]
    fn scanning_finds_exactly_the_member() {
        let body = br#"{"token":"a.b.c","refresh_token":"pm_x","token_type":"JWT"}"#;
        assert_eq!(scan_string(body, br#""token":""#), Some(b"a.b.c".as_slice()));
        assert_eq!(scan_string(body, br#""refresh_token":""#), Some(b"pm_x".as_slice()));
        assert_eq!(scan_string(body, br#""other":""#), None);
    }

    #[test]
    fn a_request_states_its_length() {
        let request = String::from_utf8(post_json("/p/", r#"{"a":1}"#)).unwrap();
        assert!(request.contains("\r\nContent-Length: 7\r\n\r\n{\"a\":1}"), "{request}");
    }
}

//! Requests whose head, framing or first bytes are wrong.

use super::super::dice::Dice;
use super::{Maker, REFRESH, Then, Tokens, line_bytes, with_body};

/// The kinds, by what is wrong.
pub(super) const KINDS: &[(&str, Maker)] = &[
    ("bytes in a header's value", header_value),
    ("bytes in a header's name", header_name),
    ("too many headers", many_headers),
    ("a head too large", large_head),
    ("a wrong Content-Length", content_length),
    ("a wrong Transfer-Encoding", transfer_encoding),
    ("wrong chunks", chunks),
    ("a wrong version", version),
    ("another method", method),
    ("bytes in the path", path_bytes),
    ("a path that is none of ours", path_encoded),
    ("a strange query", query),
    ("a wrong Host", host),
    ("bytes and nothing else", random_bytes),
    ("another protocol", protocol),
    ("half a request", truncated),
    ("strange forwarding", forwarded),
];

const PRINTABLE: &[u8] = b"abcXYZ019 -_.~!*'();:@&=+$,/?%#[]{}|<>\\^`\"";

fn header_value(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let name = dice.pick(&["Authorization", "Content-Type", "X-Request-Id", "Cookie", "Accept"]);
    let count = dice.between(1, 200);
    let value = line_bytes(dice, count);
    let head = format!("GET /forward-auth HTTP/1.1\r\nHost: localhost\r\n{name}: ");
    ([head.as_bytes(), &value, b"\r\n\r\n"].concat(), Then::Refusal)
}

fn header_name(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 60);
    let name = line_bytes(dice, count);
    let parts: &[&[u8]] = &[b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", &name, b": x\r\n\r\n"];
    (parts.concat(), Then::Refusal)
}

fn many_headers(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let lines = format!("X-Header: {}\r\n", dice.below(1_000)).repeat(dice.between(90, 400));
    let request = format!("GET /forward-auth HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    (request.into_bytes(), Then::Refusal)
}

fn large_head(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(16_000, 60_000);
    let filler = dice.text(b"abcdefgh", count);
    let request = if dice.one_in(2) {
        format!("GET /forward-auth HTTP/1.1\r\nHost: localhost\r\nX-Long: {filler}\r\n\r\n")
    } else {
        format!("GET /{filler} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    };
    (request.into_bytes(), Then::Refusal)
}

fn content_length(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let length = dice.pick(&[
        "-1",
        "+5",
        "0x10",
        "1e3",
        "5, 6",
        "",
        " ",
        "5 5",
        "99999999999999999999",
        "18446744073709551615",
        "9223372036854775807",
        "5\r\nContent-Length: 6",
        "five",
        "007",
        "1000",
    ]);
    let count = dice.between(0, 40);
    let body = dice.text(PRINTABLE, count);
    let request = format!(
        "POST {REFRESH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    (request.into_bytes(), Then::HangUp)
}

fn transfer_encoding(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let lines = dice.pick(&[
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \"chunked\"",
        "transfer-encoding: CHUNKED\r\ntransfer-encoding: chunked",
    ]);
    let count = dice.between(0, 40);
    let body = dice.text(PRINTABLE, count);
    let request = format!(
        "POST {REFRESH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {lines}\r\n\r\n{body}\r\n0\r\n\r\n"
    );
    (request.into_bytes(), Then::HangUp)
}

fn chunks(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let size = dice.pick(&[
        "zz",
        "-1",
        "FFFFFFFFFFFFFFFFF",
        "7fffffffffffffff",
        "",
        " 5",
        "5;ext=\"",
        "5;a=b;c",
        "0x5",
        "5\n",
        "00000000000000000000005",
    ]);
    let count = dice.between(0, 60);
    let body = line_bytes(dice, count);
    let head = format!(
        "POST {REFRESH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{size}\r\n"
    );
    let end = dice.pick(&["\r\n0\r\n\r\n", "\r\n0\r\nX-Trailer: x\r\n\r\n", "0\r\n", ""]);
    ([head.as_bytes(), &body, end.as_bytes()].concat(), Then::HangUp)
}

fn version(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let version = dice.pick(&[
        "HTTP/9.9",
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1.1 ",
        "HTTP/11",
        "HTTP/1.1.1",
        "HTTPS/1.1",
        "HTTP/1.0",
        "",
        "\u{fffd}",
    ]);
    let count = dice.between(0, 8);
    let path = dice.text(b"abc/", count);
    let request = format!("GET /{path} {version}\r\nHost: localhost\r\n\r\n");
    (request.into_bytes(), Then::HangUp)
}

fn method(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 30);
    let method = match dice.below(4) {
        0 => {
            dice.pick(&["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get"]).to_owned()
        }
        1 => dice.text(b"ABCXYZ", count),
        2 => dice.text(b"AZ()<>@,;:\\\"/[]?={}", count),
        _ => "M".repeat(count * 100),
    };
    let path = dice.pick(&[REFRESH, "/api/v1/me/", "/healthz", "/", "*", "localhost:80"]);
    (with_body(&method, path, "", b""), Then::Refusal)
}

fn path_bytes(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 300);
    let mut path = line_bytes(dice, count);
    path.retain(|byte| *byte != b' ');
    let parts: &[&[u8]] = &[b"GET /", &path, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"];
    (parts.concat(), Then::Refusal)
}

fn path_encoded(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let start = dice.pick(&["/", "/api/v1/", "/forward-auth-roles/", "/api/v1/sessions/", "//"]);
    let mut path = start.to_owned();
    for _ in 0..dice.between(1, 20) {
        path += dice.pick(&[
            "%00",
            "%ff",
            "%",
            "%2",
            "%zz",
            "..",
            "/",
            "%2e%2e%2f",
            "a",
            "%c3%28",
            ";",
            ",",
            "%0d%0a",
            "%F0%9F%92%A9",
            "{a}",
            "*",
            "~",
            "0000-0000",
        ]);
    }
    (with_body(dice.pick(&["GET", "POST", "DELETE"]), &path, "", b""), Then::Answer)
}

fn query(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(0, 500);
    let query = dice.text(b"ab&=%;+?/.,:@!$'()*0", count);
    let path = dice.pick(&["/forward-auth", "/api/v1/me/", REFRESH]);
    // A token in a query string is never read.
    let request = format!("{path}?token={}&{query}", tokens.access);
    (with_body("GET", &request, "", b""), Then::Answer)
}

fn host(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 80);
    let garbage = dice.text(PRINTABLE, count);
    let lines = match dice.below(3) {
        0 => String::new(),
        1 => format!("Host: localhost\r\nHost: {garbage}\r\n"),
        _ => format!("Host: {garbage}\r\n"),
    };
    let path = dice.pick(&["/forward-auth", "/.well-known/jwks.json", "http://x/healthz"]);
    (format!("GET {path} HTTP/1.1\r\n{lines}\r\n").into_bytes(), Then::Refusal)
}

fn random_bytes(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 2_000);
    (dice.bytes(count), Then::HangUp)
}

fn protocol(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let start: &[u8] = match dice.below(5) {
        // The preface of HTTP/2, and then anything.
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        2 => b"PRI * HTTP/2.0\r\n\r\n",
        // A TLS client.
        3 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        _ => b"SSH-2.0-OpenSSH_9.2\r\n",
    };
    let count = dice.between(0, 300);
    ([start, &dice.bytes(count)].concat(), Then::HangUp)
}

fn truncated(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let body = format!(r#"{{"refresh_token":"{}"}}"#, tokens.refresh);
    let mut request =
        with_body("POST", REFRESH, "Content-Type: application/json\r\n", body.as_bytes());
    request.truncate(dice.between(1, request.len() - 1));
    (request, Then::HangUp)
}

fn forwarded(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(0, 300);
    let value = dice.text(b"0123456789abcdef.:[],; \"=/%", count);
    let name = dice.pick(&["X-Forwarded-For", "X-Request-Id", "Forwarded", "Origin", "User-Agent"]);
    let line = format!("{name}: {value}\r\nContent-Type: application/json\r\n");
    (with_body("POST", REFRESH, &line, br#"{"refresh_token":"none"}"#), Then::Answer)
}

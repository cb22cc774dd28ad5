//! Requests that end where they say, with a body that is not what it should be.

use super::super::dice::Dice;
use super::{Maker, REFRESH, Then, Tokens, VERIFY, with_body};
use crate::measure::LOGIN_PATH;

/// The kinds, by what is wrong.
pub(super) const KINDS: &[(&str, Maker)] = &[
    ("no JSON at all", json_bytes),
    ("JSON with a changed byte", json_changed),
    ("half of a JSON object", json_half),
    ("JSON too deep", json_deep),
    ("a field twice", json_twice),
    ("password twice", password_twice),
    ("neither text nor integer", json_types),
    ("no password", no_password),
    ("strange numbers", json_numbers),
    ("JSON that is no UTF-8", json_utf8),
    ("strange escapes", json_escapes),
    ("a broken form", form),
    ("a broken multipart body", multipart),
    ("a multipart field twice", multipart_twice),
    ("a strange Content-Type", content_type),
    ("a body too large", large),
];

const JSON: &str = "Content-Type: application/json\r\n";

fn json(path: &str, body: &[u8]) -> (Vec<u8>, Then) {
    (with_body("POST", path, JSON, body), Then::Answer)
}

/// A path that takes a token and hashes nothing.
fn path(dice: &mut Dice) -> &'static str {
    dice.pick(&[REFRESH, VERIFY, "/api/v1/logout/", "/api/v2/token-refresh"])
}

fn refresh_body(tokens: &Tokens) -> Vec<u8> {
    format!(r#"{{"refresh_token":"x{}","grant_type":"refresh"}}"#, tokens.refresh).into_bytes()
}

fn json_bytes(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 400);
    let body = dice.bytes(count);
    json(path(dice), &body)
}

fn json_changed(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let mut body = refresh_body(tokens);
    for _ in 0..dice.between(1, 3) {
        let place = dice.below(body.len());
        if let Some(byte) = body.get_mut(place) {
            *byte = dice.byte();
        }
    }
    json(path(dice), &body)
}

fn json_half(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let mut body = refresh_body(tokens);
    body.truncate(dice.between(1, body.len() - 1));
    json(path(dice), &body)
}

fn json_deep(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let depth = dice.between(10, 4_000);
    let (open, close) = if dice.one_in(2) { ("[", "]") } else { (r#"{"a":"#, "}") };
    let end = if dice.one_in(2) { close.repeat(depth) } else { String::new() };
    let middle = if dice.one_in(2) { "1" } else { "" };
    let body = format!(r#"{{"refresh_token":{}{middle}{end}}}"#, open.repeat(depth.min(3_000)));
    json(path(dice), body.as_bytes())
}

fn json_twice(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let name = dice.pick(&["refresh_token", "token", "refresh\\u005ftoken"]);
    let members: Vec<_> = (0..dice.between(2, 50))
        .map(|number| {
            let name = if number == 1 { "refresh_token" } else { name };
            format!(r#""{name}":"x{number}""#)
        })
        .collect();
    json(path(dice), format!("{{{}}}", members.join(",")).as_bytes())
}

fn password_twice(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let first = dice.below(1_000_000);
    let body = format!(r#"{{"username":"u","password":"{first}","password":"{first}"}}"#);
    json(LOGIN_PATH, body.as_bytes())
}

fn json_types(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let mut value = |depth: usize| {
        let plain = ["{}", "[]", "true", "false", "[1]", r#"{"a":1}"#, "[[]]", "[null]", "null"];
        let value = dice.pick(&plain);
        format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth))
    };
    let (username, password) = (value(1), value(0));
    let number = dice.below(1_000_000);
    let body = format!(r#"{{"username":{username},"password":{password},"n":{number}}}"#);
    json(LOGIN_PATH, body.as_bytes())
}

fn no_password(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 2_000);
    let username = dice.text(b"abc 019._", count);
    let password =
        dice.pick(&["", r#","password":"""#, r#","password":null"#, r#","Password":"x""#]);
    json(LOGIN_PATH, format!(r#"{{"username":"{username}"{password}}}"#).as_bytes())
}

fn json_numbers(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 1_500);
    let digits = dice.text(b"0123456789", count);
    let number =
        dice.pick(&["1e999999", "-0", "1.", ".5", "0x10", "NaN", "Infinity", "1e", "01", "-"]);
    let body = if dice.one_in(2) {
        format!(r#"{{"refresh_token":{digits}}}"#)
    } else {
        format!(r#"{{"refresh_token":{number},"n":{digits}}}"#)
    };
    json(path(dice), body.as_bytes())
}

fn json_utf8(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    // Overlong, a surrogate, a lone continuation, beyond U+10FFFF, cut off, never valid.
    let wrong: &[&[u8]] = &[
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\x00",
    ];
    let wrong = dice.pick(wrong).repeat(dice.between(1, 20));
    let body = if dice.one_in(4) {
        [&wrong, br#"{"refresh_token":"x"}"#.as_slice()].concat()
    } else {
        [br#"{"refresh_token":""#.as_slice(), &wrong, br#""}"#].concat()
    };
    json(path(dice), &body)
}

fn json_escapes(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let mut text = String::new();
    for _ in 0..dice.between(1, 40) {
        text += dice.pick(&[
            r"\ud800",
            r"\udc00\ud800",
            r"\u0000",
            r"\uZZZZ",
            r"\x41",
            r"\u00",
            r"\",
            r"\n",
            r"\u202e",
            r"\uD83D\uDE00",
            "\t",
            "\u{7f}",
        ]);
    }
    json(path(dice), format!(r#"{{"refresh_token":"{text}"}}"#).as_bytes())
}

fn form(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let mut body = String::new();
    for _ in 0..dice.between(1, 30) {
        body += dice.pick(&[
            "refresh_token=x",
            "token=y",
            "&",
            "=",
            "%",
            "%zz",
            "%ff",
            "%00",
            "+",
            ";",
            "a[b]=c",
            "&&",
            "refresh_token",
            "%72efresh_token=z",
            "\u{e9}",
        ]);
    }
    let lines = "Content-Type: application/x-www-form-urlencoded\r\n";
    (with_body("POST", path(dice), lines, body.as_bytes()), Then::Answer)
}

fn multipart(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let boundary = dice.pick(&["b", "", "\"b", "b;b", "b; charset=x", "--", "\"\""]);
    let parameter = if dice.one_in(8) { String::new() } else { format!("; boundary={boundary}") };
    let lines = format!("Content-Type: multipart/form-data{parameter}\r\n");
    let mut body = String::new();
    for _ in 0..dice.between(1, 12) {
        body += dice.pick(&[
            "--b\r\n",
            "--b--\r\n",
            "--b",
            "\r\n",
            "\r\n\r\n",
            "Content-Disposition: form-data; name=\"refresh_token\"\r\n\r\nx\r\n",
            "Content-Disposition: form-data; name=\"refresh_token\r\n\r\nx\r\n",
            "Content-Disposition: form-data\r\n\r\nx\r\n",
            "Content-Disposition: form-data; name=\"a\"; filename=\"../../x\"\r\n\r\nx\r\n",
            "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n",
            "Content-Transfer-Encoding: base64\r\n",
            "\u{0}\u{1}",
            ": \r\n",
            "x",
        ]);
    }
    let count = dice.between(0, 30);
    let bytes = [body.as_bytes(), &dice.bytes(count)].concat();
    (with_body("POST", path(dice), &lines, &bytes), Then::Answer)
}

fn multipart_twice(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let part = |number| {
        format!("--b\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\n{number}\r\n")
    };
    let parts: String = (0..dice.between(2, 60)).map(part).collect();
    let lines = "Content-Type: multipart/form-data; boundary=b\r\n";
    (with_body("POST", path(dice), lines, format!("{parts}--b--\r\n").as_bytes()), Then::Answer)
}

fn content_type(dice: &mut Dice, tokens: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(1, 60);
    let garbage = dice.text(b"abc/;=\" ,", count);
    let value = match dice.below(3) {
        0 => dice.pick(&[
            "application/json; charset=utf-16",
            "application/JSON;;;",
            "text/plain",
            "application/xml",
            "multipart/form-data",
            "application/x-www-form-urlencoded; charset=\u{fffd}",
            "json",
            "",
        ]),
        1 => garbage.as_str(),
        _ => "application/json\r\nContent-Type: application/x-www-form-urlencoded",
    };
    let lines = format!("Content-Type: {value}\r\n");
    (with_body("POST", path(dice), &lines, &refresh_body(tokens)), Then::Answer)
}

fn large(dice: &mut Dice, _: &Tokens) -> (Vec<u8>, Then) {
    let count = dice.between(16_385, 65_536);
    let filler = "a".repeat(count);
    let kind = dice.pick(&["application/json", "application/x-www-form-urlencoded", "text/plain"]);
    let lines = format!("Content-Type: {kind}\r\n");
    let body = format!(r#"{{"refresh_token":"{filler}"}}"#);
    // It may be answered, and the connection closed, before all of it was read.
    (with_body("POST", path(dice), &lines, body.as_bytes()), Then::Refusal)
}

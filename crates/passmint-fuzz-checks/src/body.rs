//! Reads a body as the server does and asserts what holds of every body, whatever its type
//! (contract section 0).

use passmint::domain::secret::MAX_TEXT_BYTES;
use passmint::http::error::FieldFault;
use passmint::http::fuzzing::{self, Body, Field, HeaderValue, MAX_BODY_BYTES};

use crate::SECRET;
use crate::json_tree::{Json, all_different};

pub const JSON: &str = "application/json";
pub const FORM: &str = "application/x-www-form-urlencoded";
const BOUNDARY: &str = "zzzzzzzzzzzzzzzz";

/// `None` when it is refused. Longer bodies never reach the parsers.
pub fn read(content_type: &HeaderValue, body: &[u8]) -> Option<Body> {
    assert!(body.len() <= MAX_BODY_BYTES, "the target is to be run with -max_len");
    match fuzzing::body(content_type, body) {
        Ok(read) => {
            check(&read);
            Some(read)
        }
        Err(refusal) => {
            let answer = Json::read(refusal.body.as_bytes());
            let members = answer.as_ref().and_then(Json::members).unwrap_or_default();
            assert!(matches!(members, [(name, Json::Text(_))] if name == "detail"), "the shape");
            assert!(matches!(refusal.status, 400 | 415), "{}", refusal.status);
            // 415 names the type that was sent.
            let quotes = refusal.status != 415 && refusal.body.contains(SECRET);
            assert!(!quotes, "a refusal quotes the body: {}", refusal.body);
            None
        }
    }
}

/// The same where the type is one of ours.
pub fn read_as(content_type: &'static str, body: &[u8]) -> Option<Body> {
    read(&HeaderValue::from_static(content_type), body)
}

fn check(body: &Body) {
    assert!(all_different(body.fields().map(|(name, _)| name)), "a field is there twice");
    for (name, field) in body.fields() {
        let any = body.any_text(name);
        match field {
            Field::Null | Field::Text("") => assert_eq!(any, Err(FieldFault::Missing)),
            Field::Other => assert_eq!(any, Err(FieldFault::NotAString)),
            Field::Text(text) if text.contains('\0') => {
                assert_eq!(any, Err(FieldFault::NotAString))
            }
            Field::Text(text) => assert_eq!(any, Ok(text)),
        }
        match body.text(name) {
            Ok(text) => assert!(any == Ok(text) && text.len() <= MAX_TEXT_BYTES),
            Err(fault) => assert!(any == Err(fault) || any.is_ok_and(|t| t.len() > MAX_TEXT_BYTES)),
        }
    }
    same_in_every_type(body);
}

/// What was read says the same when it is written anew, in each of the three types.
fn same_in_every_type(body: &Body) {
    let all: Vec<_> = body.fields().collect();
    assert_reads(JSON, &as_json(&all), &all);
    let texts: Vec<_> = all.iter().filter_map(as_text).collect();
    let wanted: Vec<_> = texts.iter().map(|(name, text)| (*name, Field::Text(text))).collect();
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&texts).finish();
    assert_reads(FORM, &form, &wanted);
    if let Some(multipart) = as_multipart(&texts) {
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        assert_reads(&content_type, &multipart, &wanted);
    }
}

fn assert_reads(content_type: &str, text: &str, wanted: &[(&str, Field<'_>)]) {
    let content_type = HeaderValue::from_str(content_type).expect("printable");
    match fuzzing::body(&content_type, text.as_bytes()) {
        Ok(again) => assert!(again.fields().eq(wanted.iter().copied()), "changed by {text:?}"),
        Err(refusal) => panic!("{text:?} is refused: {}", refusal.body),
    }
}

fn as_text<'a>((name, field): &(&'a str, Field<'a>)) -> Option<(&'a str, &'a str)> {
    if let Field::Text(text) = field { Some((name, text)) } else { None }
}

fn as_json(fields: &[(&str, Field<'_>)]) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a text");
    let member = |(name, field): &(&str, Field<'_>)| {
        let value = match field {
            Field::Text(text) => quoted(text),
            Field::Null => "null".to_owned(),
            Field::Other => "[]".to_owned(),
        };
        format!("{}:{value}", quoted(name))
    };
    format!("{{{}}}", fields.iter().map(member).collect::<Vec<_>>().join(","))
}

/// `None` where the format cannot say it: a name that cannot stand in a header, a text that holds the
/// boundary. Nor where multer takes a part of the name for the name of a file (rwf2/multer issue 72);
/// no field of ours has such a name.
fn as_multipart(texts: &[(&str, &str)]) -> Option<String> {
    let mut body = String::new();
    for (name, text) in texts {
        let file = name.contains(" filename") || name.contains(";filename");
        if file
            || name.contains(['"', '\\'])
            || name.contains(char::is_control)
            || text.contains(BOUNDARY)
        {
            return None;
        }
        body += &format!("--{BOUNDARY}\r\n");
        body += &format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    }
    Some(body + &format!("--{BOUNDARY}--\r\n"))
}

//! Multipart bodies. The first line is what follows `multipart/form-data` in the content type.

use crate::body;
use passmint::http::fuzzing::{Field, HeaderValue};

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (parameters, rest) = data.split_at(cut);
    let sent = [b"multipart/form-data", parameters].concat();
    let Ok(content_type) = HeaderValue::from_bytes(&sent) else {
        return;
    };
    let sent = rest.strip_prefix(b"\n").unwrap_or(rest);
    let Some(read) = body::read(&content_type, sent) else {
        return;
    };
    let stands_there = |text: &str| {
        text.is_empty() || sent.windows(text.len()).any(|window| window == text.as_bytes())
    };
    for (name, field) in read.fields() {
        // In a name, a quotation mark is written behind a backslash.
        assert!(name.contains('"') || stands_there(name), "{name:?} was not sent");
        match field {
            // From the empty line to the boundary: all of it.
            Field::Text(text) => {
                assert!(stands_there(&format!("\r\n\r\n{text}\r\n--")), "{text:?} was not sent");
            }
            Field::Other => {}
            Field::Null => panic!("there is no null in this format"),
        }
    }
}

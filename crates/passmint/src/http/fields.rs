//! The fields of a request body, whichever of the three types it has (contract section 0).

use std::collections::HashSet;
use std::fmt;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::envelope::PublicState;
use super::error::{ApiError, FieldFault};
use crate::domain::secret::MAX_TEXT_BYTES;
use crate::telemetry::CutReason;

/// Longer bodies are refused.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;
/// Of those that are not much longer the rest is still taken: a proxy that cannot send its request to
/// the end makes an answer of its own.
const MOST_DISCARDED: usize = 256 * 1024;
/// Deeper JSON is refused.
const MAX_DEPTH: usize = 16;

/// What stood in a field.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A text, or the digits of an integer; wiped when dropped.
    Text(Zeroizing<String>),
    /// JSON null.
    Null,
    /// A list, an object, a fraction, a switch, a file.
    Other,
}

impl Value {
    fn text(text: String) -> Self {
        Self::Text(Zeroizing::new(text))
    }
}

/// The fields of one body. They may be secrets, so there is no `Debug`, and texts are wiped when dropped.
/// (What the HTTP library read from the socket is not: it goes back to the allocator as it is.)
pub(super) struct Fields(pub(super) Vec<(String, Value)>);

impl FromRequest<PublicState> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &PublicState) -> Result<Self, ApiError> {
        let services = state.services();
        let deadline = services.settings.load().server.limits.body_timeout;
        let (parts, body) = request.into_parts();
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MOST_DISCARDED) {
            return Err(ApiError::TooLarge);
        }
        let body = tokio::time::timeout(deadline, read(body)).await.map_err(|_| {
            services.metrics.connection_cut(CutReason::Body);
            ApiError::TooSlow
        })??;
        Self::parse(&parts.headers, &body).await
    }
}

/// The whole body, unless it is too long; wiped when dropped.
async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // At once as large as it gets: growing would leave copies behind.
    let expected = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let most = expected.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::Malformed("The request body could not be read to its end.".into())
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&data);
        } else if length > MOST_DISCARDED {
            break;
        }
    }
    if length > MAX_BODY_BYTES { Err(ApiError::TooLarge) } else { Ok(bytes) }
}

impl Fields {
    /// The fields of a body that is there as a whole.
    pub(super) async fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = sent.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let fields = match essence.as_str() {
            "application/json" => parse_json(body)?,
            "application/x-www-form-urlencoded" => parse_form(body)?,
            "multipart/form-data" => parse_multipart(sent, body).await?,
            _ => return Err(ApiError::UnsupportedMediaType(printable(&essence))),
        };
        let mut seen = HashSet::with_capacity(fields.len());
        if !fields.iter().all(|(name, _)| seen.insert(name.as_str())) {
            return Err(ApiError::Malformed("A field is given twice.".into()));
        }
        Ok(Self(fields))
    }

    /// The text of a field that must be there and not empty, at most `MAX_TEXT_BYTES` long.
    pub(super) fn text(&self, name: &str) -> Result<&str, FieldFault> {
        let text = self.any_text(name)?;
        if text.len() > MAX_TEXT_BYTES { Err(FieldFault::NotAString) } else { Ok(text) }
    }

    /// The same without the bound: tokens have one of their own.
    pub(super) fn any_text(&self, name: &str) -> Result<&str, FieldFault> {
        match self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value) {
            None | Some(Value::Null) => Err(FieldFault::Missing),
            Some(Value::Text(text)) if text.is_empty() => Err(FieldFault::Missing),
            Some(Value::Text(text)) if text.contains('\0') => Err(FieldFault::NotAString),
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Other) => Err(FieldFault::NotAString),
        }
    }
}

/// A media type as it may stand in an answer.
fn printable(essence: &str) -> String {
    essence.chars().filter(char::is_ascii_graphic).take(100).collect()
}

fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes)
        .map_err(|_| ApiError::Malformed("The request body is not valid UTF-8.".into()))
}

fn parse_json(body: &[u8]) -> Result<Vec<(String, Value)>, ApiError> {
    let text = utf8(body)?;
    if depth(text) > MAX_DEPTH {
        return Err(ApiError::Malformed("JSON parse error: nested deeper than 16.".into()));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_any(Members).and_then(|members| {
        deserializer.end()?;
        Ok(members)
    });
    let members = members.map_err(|error| json_fault(&error))?;
    members.into_iter().map(|(name, raw)| Ok((name, json_value(raw.get())?))).collect()
}

/// The fault with its position. The library's own words may quote the body, so they are not used.
fn json_fault(error: &serde_json::Error) -> ApiError {
    let what = match error.classify() {
        serde_json::error::Category::Data => {
            return ApiError::Malformed("JSON parse error: the body must be an object.".into());
        }
        serde_json::error::Category::Eof => "the text ends too early",
        _ => "not valid JSON",
    };
    let (line, column) = (error.line(), error.column());
    ApiError::Malformed(format!("JSON parse error: {what} at line {line} column {column}.").into())
}

/// How deep lists and objects are nested; brackets inside texts do not count.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

fn json_value(raw: &str) -> Result<Value, ApiError> {
    let fault = |_| ApiError::Malformed("JSON parse error: a text is not valid Unicode.".into());
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Value::text(serde_json::from_str(raw).map_err(fault)?),
        Some(b'n') => Value::Null,
        Some(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Value::text(raw.to_owned())
        }
        _ => Value::Other,
    })
}

fn parse_form(body: &[u8]) -> Result<Vec<(String, Value)>, ApiError> {
    let text = utf8(body)?;
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((form_text(name)?, Value::text(form_text(value)?)))
        })
        .collect()
}

fn form_text(encoded: &str) -> Result<String, ApiError> {
    let spaced = Zeroizing::new(encoded.replace('+', " "));
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::Malformed("The request body is not valid UTF-8.".into()))
}

async fn parse_multipart(
    content_type: &str,
    body: &[u8],
) -> Result<Vec<(String, Value)>, ApiError> {
    let malformed = |what: &'static str| ApiError::Malformed(what.into());
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| malformed("Multipart form parse error: no boundary in the content type."))?;
    let body = axum::body::Bytes::from_owner(Zeroizing::new(body.to_vec()));
    let whole = Ok::<_, std::convert::Infallible>(body);
    let mut multipart = multer::Multipart::new(futures_once(whole), boundary);
    let mut fields = Vec::new();
    let broken = "Multipart form parse error: the parts do not match the boundary.";
    while let Some(part) = multipart.next_field().await.map_err(|_| malformed(broken))? {
        let name = part.name().map(str::to_owned);
        let name =
            name.ok_or_else(|| malformed("Multipart form parse error: a part has no name."))?;
        let is_file = part.file_name().is_some();
        let bytes = part.bytes().await.map_err(|_| malformed(broken))?;
        let value = if is_file { Value::Other } else { Value::text(utf8(&bytes)?.to_owned()) };
        fields.push((name, value));
    }
    Ok(fields)
}

/// A stream of one item: the body is in memory already.
fn futures_once<T: Send + 'static>(
    item: T,
) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::once(std::future::ready(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Result<Vec<(String, Value)>, String> {
        parse_json(body.as_bytes()).map_err(|error| match error {
            ApiError::Malformed(text) => text.into_owned(),
            _ => String::from("other"),
        })
    }

    #[test]
    fn integers_count_as_their_digits() {
        let fields = json(r#"{"a":00}"#);
        assert!(fields.is_err());
        let Ok(fields) = json(r#"{"a":-7,"b":12345678901234567890123,"c":1.0,"d":1e3,"e":true}"#)
        else {
            panic!("refused");
        };
        let of = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let text = |text: &str| Some(Value::text(text.to_owned()));
        assert!(of("a") == text("-7"));
        assert!(of("b") == text("12345678901234567890123"));
        for other in ["c", "d", "e"] {
            assert!(of(other) == Some(Value::Other), "{other}");
        }
    }

    #[test]
    fn faults_never_quote_the_body() {
        for body in
            [r#"{"password": hunter2}"#, r#"["hunter2"]"#, r#""hunter2""#, "{\"a\":\"hunter2"]
        {
            let fault = json(body).err().unwrap();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn brackets_inside_texts_are_no_depth() {
        assert_eq!(depth(r#"{"a":"[[[[\"[[[","b":[[1]]}"#), 3);
    }
}

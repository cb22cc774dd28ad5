//! What the fuzz checks (`passmint-fuzz-checks`) reach of this module, in plain types: its parsers are private
//! to it. Nothing of the server calls it.

use std::net::IpAddr;

pub use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use super::error::{FieldFault, Unauthorized};
use super::fields::{Fields, Value};
use super::{client_address, extract, fields};
use crate::config::Server;

/// The longest body that reaches a parser.
pub const MAX_BODY_BYTES: usize = fields::MAX_BODY_BYTES;

/// What stood in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A text, or the digits of an integer.
    Text(&'a str),
    /// JSON null.
    Null,
    /// Anything else.
    Other,
}

/// A body that was read.
pub struct Body(Fields);

/// A body that was refused: the answer as it goes over the wire.
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// The body of the answer.
    pub body: String,
}

/// Reads a body of that type. It is in memory, so that there is nothing to wait for.
pub fn body(content_type: &HeaderValue, body: &[u8]) -> Result<Body, Refusal> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.clone())]);
    now(Fields::parse(&headers, body)).map(Body).map_err(|error| {
        let answer = error.into_response();
        let status = answer.status().as_u16();
        let body = now(answer.into_body().collect()).unwrap_or_default().to_bytes();
        Refusal { status, body: String::from_utf8_lossy(&body).into_owned() }
    })
}

#[expect(clippy::expect_used, reason = "a parser that waits would wait for ever: the target stops")]
fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("all of it is there")
}

impl Body {
    /// Every field, in the body's order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Field<'_>)> {
        self.0.0.iter().map(|(name, value)| {
            let field = match value {
                Value::Text(text) => Field::Text(text.as_str()),
                Value::Null => Field::Null,
                Value::Other => Field::Other,
            };
            (name.as_str(), field)
        })
    }

    /// A field as handlers ask for it.
    pub fn text(&self, name: &str) -> Result<&str, FieldFault> {
        self.0.text(name)
    }

    /// A token as handlers ask for it.
    pub fn any_text(&self, name: &str) -> Result<&str, FieldFault> {
        self.0.any_text(name)
    }
}

/// The token of these lines of `Authorization`.
pub fn authorization(lines: &[HeaderValue]) -> Result<String, Unauthorized> {
    extract::authorization(&headers(&AUTHORIZATION, lines)).map(str::to_owned)
}

/// The client's address, by these lines of the forwarding header.
pub fn client_address(peer: IpAddr, lines: &[HeaderValue], server: &Server) -> Option<IpAddr> {
    let name = HeaderName::from_bytes(server.forwarded_header.as_bytes()).ok()?;
    Some(client_address::client_address(peer, &headers(&name, lines), server).0)
}

fn headers(name: &HeaderName, lines: &[HeaderValue]) -> HeaderMap {
    lines.iter().map(|line| (name.clone(), line.clone())).collect()
}

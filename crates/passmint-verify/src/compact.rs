//! Strict decoding of the compact form (RFC 7515 section 7.1) and of JSON objects inside it.
//!
//! Everything that two parsers could read differently is refused: duplicate names, padding, spare
//! bits, white space, members this crate does not act on.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// A token cut at its two dots, decoded but not yet believed.
pub(crate) struct Compact<'a> {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) signing_input: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

/// The members of the JOSE header that this crate acts on; any other member is a refusal.
pub(crate) struct Header {
    pub(crate) typ: Option<String>,
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
}

impl<'a> Compact<'a> {
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        let (signing_input, signature) = token.rsplit_once('.')?;
        let (header, payload) = signing_input.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        Some(Self {
            header: Header::parse(&URL_SAFE_NO_PAD.decode(header).ok()?)?,
            payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
            signing_input: signing_input.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

impl Header {
    fn parse(json: &[u8]) -> Option<Self> {
        let mut header = Self { typ: None, alg: String::new(), kid: None };
        for (name, value) in unique_members(json)? {
            let Value::String(value) = value else {
                return None;
            };
            match name.as_str() {
                "alg" => header.alg = value,
                "typ" => header.typ = Some(value),
                "kid" => header.kid = Some(value),
                // crit, zip, jwk, jku, x5u, b64, …: not understood, so not accepted.
                _ => return None,
            }
        }
        (!header.alg.is_empty()).then_some(header)
    }
}

/// The members of a JSON object in their order, or `None` for anything else, an object that names
/// a member twice, or trailing bytes.
pub(crate) fn unique_members(json: &[u8]) -> Option<Vec<(String, Value)>> {
    let text = std::str::from_utf8(json).ok()?;
    serde_json::from_str::<UniqueMembers>(text).ok().map(|members| members.0)
}

struct UniqueMembers(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::with_capacity(20);
                while let Some(name) = map.next_key::<String>()? {
                    if members.iter().any(|(seen, _)| *seen == name) {
                        return Err(serde::de::Error::custom("a member is named twice"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

//! Strict decoding of the compact form (RFC 7515 section 7.1) and of JSON objects inside it.
//!
//! Everything that two parsers could read differently is refused: duplicate names, padding, spare
//! bits, white space, members this crate does not act on.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

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

/// More than `alg`, `typ` and any `kid` take.
const MAX_HEADER_BYTES: usize = 1024;

impl Header {
    fn parse(json: &[u8]) -> Option<Self> {
        let mut header = Self { typ: None, alg: String::new(), kid: None };
        // Three members; a long list of others is not compared with itself.
        if json.len() > MAX_HEADER_BYTES {
            return None;
        }
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
                        return Err(named_twice());
                    }
                    members.push((name, map.next_value_seed(Unambiguous)?));
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn named_twice<E: serde::de::Error>() -> E {
    E::custom("a member is named twice")
}

/// Reads a value in which no object, however deep, names a member twice. `serde_json` by itself keeps the
/// last of two, and takes an object with one of its private names for the text that stands in it.
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, switch: bool) -> Result<Value, E> {
        Ok(Value::Bool(switch))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element_seed(Unambiguous)? {
            parts.push(part);
        }
        Ok(Value::Array(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Unambiguous)?;
            if members.insert(name, value).is_some() {
                return Err(named_twice());
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_given_twice_is_refused_however_deep() {
        assert!(unique_members(br#"{"a":1,"b":{"a":[{"a":1},{"a":2}]}}"#).is_some());
        for twice in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"\u0061":2}}"#, r#"{"b":[{"a":1,"a":2}]}"#]
        {
            assert!(unique_members(twice.as_bytes()).is_none(), "{twice}");
        }
    }

    #[test]
    fn values_are_what_they_were_written_as() {
        let members = unique_members(br#"{"a":[null,true,-1,18446744073709551615,0.5,"x",{}]}"#);
        let wanted =
            serde_json::json!([null, true, -1, 18_446_744_073_709_551_615_u64, 0.5, "x", {}]);
        assert_eq!(members.unwrap(), [("a".to_owned(), wanted)]);
    }

    #[test]
    fn an_object_stays_an_object_whatever_its_member_is_called() {
        // The feature `raw_value` of serde_json, which the server uses, reads this as the text HS256.
        let alg = r#"{"$serde_json::private::RawValue":"\"HS256\""}"#;
        let members = unique_members(format!(r#"{{"alg":{alg}}}"#).as_bytes()).unwrap();
        assert!(members[0].1.is_object());
        assert!(Header::parse(format!(r#"{{"alg":{alg}}}"#).as_bytes()).is_none());
    }
}

//! A second opinion on JSON: everything as it was written, names in their order, repeated ones too.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Switch(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// `None`: not JSON, or not all of it.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The members of an object.
    pub fn members(&self) -> Option<&[(String, Json)]> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The first member of that name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members()?.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number without its fraction, if it is one.
    pub fn seconds(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a number past all bounds stays so"
            )]
            Self::Fraction(number) => Some(number.floor() as i128),
            _ => None,
        }
    }

    /// How deep lists and objects are nested.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(parts) => 1 + parts.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => {
                1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Whether no object in it, however deep, has two members of one name.
    pub fn is_unambiguous(&self) -> bool {
        match self {
            Self::List(parts) => parts.iter().all(Self::is_unambiguous),
            Self::Object(members) => {
                all_different(members.iter().map(|(name, _)| name.as_str()))
                    && members.iter().all(|(_, value)| value.is_unambiguous())
            }
            _ => true,
        }
    }
}

/// Whether no two names are the same.
pub fn all_different<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().all(|name| seen.insert(name))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, switch: bool) -> Result<Json, E> {
        Ok(Json::Switch(switch))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(part);
        }
        Ok(Json::List(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

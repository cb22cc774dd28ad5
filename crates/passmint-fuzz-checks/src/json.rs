//! JSON bodies: what is read is what a second parser reads, and what is refused has a reason.

use crate::body;
use crate::json_tree::{Json, all_different};
use passmint::http::fuzzing::Field;

/// Contract section 0.
const MAX_DEPTH: usize = 16;

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    let judge = Json::read(data);
    let members = judge.as_ref().and_then(Json::members);
    let Some(read) = body::read_as(body::JSON, data) else {
        if let (Some(judge), Some(members)) = (&judge, members) {
            let unique = all_different(members.iter().map(|(name, _)| name.as_str()));
            assert!(!unique || judge.depth() > MAX_DEPTH, "refused without a reason");
        }
        return;
    };
    let Some(judge) = &judge else {
        // No body at all; a number past all bounds, or half a surrogate pair, in what is not looked at.
        return;
    };
    assert!(judge.depth() <= MAX_DEPTH);
    let members = members.expect("only objects are read");
    assert_eq!(read.fields().count(), members.len());
    for ((name, field), (wanted, value)) in read.fields().zip(members) {
        assert_eq!(name, wanted);
        let agrees = match (field, value) {
            (Field::Text(text), Json::Text(wanted)) => text == wanted,
            (Field::Text(text), Json::Integer(wanted)) => text == wanted.to_string(),
            // More digits than a machine's integer has, or a zero below zero.
            (Field::Text(text), Json::Fraction(_)) => {
                text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit())
            }
            (Field::Null, Json::Null) => true,
            (Field::Other, other) => {
                !matches!(other, Json::Null | Json::Text(_) | Json::Integer(_))
            }
            _ => false,
        };
        assert!(agrees, "{name:?}: {field:?} is not {value:?}");
    }
}

//! Form bodies: what is read is what a second parser reads, and what is refused has a reason.

use crate::body;
use crate::json_tree::all_different;
use passmint::http::fuzzing::Field;

/// Ends in a panic when something of the above does not hold of this input.
pub fn check(data: &[u8]) {
    // Where bytes are no text, it has U+FFFD.
    let judge: Vec<_> = form_urlencoded::parse(data).collect();
    if let Some(read) = body::read_as(body::FORM, data) {
        assert!(std::str::from_utf8(data).is_ok());
        let wanted = judge.iter().map(|(name, text)| (name.as_ref(), Field::Text(text)));
        assert!(read.fields().eq(wanted), "the parsers disagree: {judge:?}");
        return;
    }
    let is_text = std::str::from_utf8(data).is_ok()
        && judge
            .iter()
            .all(|(name, text)| !(name.contains('\u{fffd}') || text.contains('\u{fffd}')));
    let unique = all_different(judge.iter().map(|(name, _)| name.as_ref()));
    assert!(!is_text || !unique, "refused without a reason");
}

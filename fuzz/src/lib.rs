//! What the targets share: how a body is read and judged, and a second opinion on JSON.
//!
//! A target asserts; whoever breaks an assertion ends the run. Nothing here is part of the server.

pub mod body;
pub mod json;

/// Stands where secrets stand, in the seeds and in the dictionaries. It is in no text of ours, so an
/// answer that holds it quotes its request.
pub const SECRET: &str = "hunter2";

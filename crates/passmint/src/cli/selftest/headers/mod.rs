//! Headers: those of a client that lie, and those of the server that must be there.

mod always;
mod host;
mod identity;
mod throttle;

use super::ground::Ground;
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Headers;
/// What must never come back.
const EVIL: &str = "evil.example";

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    always::run(ground, sheet).await;
    identity::run(ground, sheet).await;
    host::run(ground, sheet).await;
    throttle::run(ground, sheet).await;
}

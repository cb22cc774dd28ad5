//! The caller's own sessions: listing, ending, logging out (contract section 4).

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use super::error::{ApiError, FieldFault, Unauthorized};
use super::extract::{ChangingCaller, UserCaller, authorization, has_authorization};
use super::fields::Fields;
use crate::domain::audit::Actor;
use crate::domain::session::{EndReason, Session, SessionId};
use crate::service::session::{SessionPage, SessionService};
use crate::service::token::TokenService;

#[derive(Serialize)]
pub(super) struct SessionsBody {
    sessions: Vec<SessionBody>,
    /// Only where there are more: what to send as `before` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many sessions one answer lists.
const PAGE: u32 = 100;

/// `?before=ID`: sessions that began before that one.
fn before(uri: &Uri) -> Result<Option<SessionId>, ApiError> {
    let pairs = uri.query().unwrap_or_default().split('&');
    match pairs.filter_map(|pair| pair.strip_prefix("before=")).next_back() {
        None | Some("") => Ok(None),
        Some(id) => SessionId::parse(id).map(Some).ok_or(ApiError::NotFound),
    }
}

#[derive(Serialize)]
struct SessionBody {
    id: String,
    created_at: String,
    last_used_at: String,
    address: Option<String>,
    user_agent: String,
    current: bool,
}

impl SessionBody {
    fn new(session: &Session, current: Option<SessionId>) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: session.created_at.iso8601(),
            last_used_at: session.rotated_at.iso8601(),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.clone(),
            current: current == Some(session.id),
        }
    }
}

/// `GET /api/v1/sessions/`
pub(super) async fn list(
    State(sessions): State<SessionService>,
    caller: UserCaller,
    uri: Uri,
) -> Result<Json<SessionsBody>, ApiError> {
    let page = SessionPage { ended: false, before: before(&uri)?, limit: PAGE + 1 };
    let mut live = sessions.of_user(caller.user, page).await?;
    let more = live.len() > PAGE as usize;
    live.truncate(PAGE as usize);
    let next = live.last().filter(|_| more).map(|session| session.id.to_string());
    let sessions = live.iter().map(|s| SessionBody::new(s, caller.session)).collect();
    Ok(Json(SessionsBody { sessions, next }))
}

/// `DELETE /api/v1/sessions/{id}/`
pub(super) async fn end(
    State(sessions): State<SessionService>,
    ChangingCaller(caller): ChangingCaller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NotFound)?;
    let id = SessionId::parse(&id).ok_or(ApiError::NotFound)?;
    let own = caller.session == Some(id);
    let reason = if own { EndReason::Logout } else { EndReason::LoggedOutElsewhere };
    if sessions.end_own(caller.user, id, reason).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}

/// `DELETE /api/v1/sessions/`: all others.
pub(super) async fn end_others(
    State(sessions): State<SessionService>,
    ChangingCaller(caller): ChangingCaller,
) -> Result<StatusCode, ApiError> {
    let keep = caller.session.ok_or(ApiError::Unauthorized(Unauthorized::Invalid))?;
    sessions.end_others(caller.user, keep).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/logout/`: ends the caller's session, or, without a header, that of the refresh
/// token in the body. Whoever holds a refresh token may end its session (RFC 7009 section 2.1).
pub(super) async fn logout(
    State(sessions): State<SessionService>,
    State(tokens): State<TokenService>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<StatusCode, ApiError> {
    let (session, actor) = if has_authorization(&headers) {
        let token = authorization(&headers).map_err(ApiError::Unauthorized)?;
        let subject = tokens.verify(token).await?.subject;
        (subject.session, subject.user.map_or(Actor::Nobody, Actor::User))
    } else {
        let token = fields.any_text("refresh_token").map_err(|fault| match fault {
            FieldFault::Missing => ApiError::Unauthorized(Unauthorized::NotProvided),
            fault => ApiError::Fields(vec![("refresh_token", fault)]),
        })?;
        (tokens.session_of_refresh_token(token), Actor::Nobody)
    };
    if let Some(session) = session {
        sessions.end_proven(session, actor).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

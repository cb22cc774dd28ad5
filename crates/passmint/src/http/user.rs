//! The caller's own account (contract section 4).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::error::{ApiError, Unauthorized};
use super::extract::{ChangingCaller, PasswordDoor, UserCaller};
use super::fields::Fields;
use super::token::both;
use crate::domain::secret::Password;
use crate::domain::time::Timestamp;
use crate::service::Settings;
use crate::service::token::TokenService;
use crate::service::user::UserService;

#[derive(Serialize)]
pub(super) struct MeBody {
    id: Value,
    username: String,
    email: String,
    first_name: String,
    last_name: String,
    roles: Vec<String>,
    session_id: Option<String>,
    token_expires_at: String,
}

/// `GET /api/v1/me/`
pub(super) async fn me(
    State(tokens): State<TokenService>,
    caller: UserCaller,
) -> Result<Json<MeBody>, ApiError> {
    let user = tokens.user_of(&caller.verified).await?;
    let user = user.ok_or(ApiError::Unauthorized(Unauthorized::Revoked))?;
    let expires_at = caller.verified.expires_at.saturating_mul(1_000_000);
    Ok(Json(MeBody {
        id: user.public_id(),
        username: user.username.to_string(),
        email: user.email,
        first_name: user.first_name,
        last_name: user.last_name,
        roles: user.roles,
        session_id: caller.session.map(|id| id.to_string()),
        token_expires_at: Timestamp::from_micros(expires_at).iso8601(),
    }))
}

/// `POST /api/v1/password-change/`
pub(super) async fn change_password(
    State(users): State<UserService>,
    State(settings): State<Settings>,
    _counted: PasswordDoor,
    ChangingCaller(caller): ChangingCaller,
    fields: Fields,
) -> Result<StatusCode, ApiError> {
    let old = fields.text("old_password");
    let [old, new] = both([("old_password", old), ("new_password", fields.text("new_password"))])?;
    let (old, new) = (Password::new(old.to_owned()), Password::new(new.to_owned()));
    let refused = settings.load().api.invalid_credentials_status;
    users
        .change_own_password(caller.user, caller.session, old, new)
        .await
        .map_err(|error| ApiError::from_password_change(error, refused))?;
    Ok(StatusCode::NO_CONTENT)
}

//! Logging in, refreshing, verifying: wire types and handlers (contract sections 1, 2, 4).

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::{ApiError, FieldFault};
use super::extract::{Origin, PasswordDoor, RefreshDoor};
use super::fields::Fields;
use crate::domain::secret::Password;
use crate::service::Settings;
use crate::service::token::{Login, Pair, TokenService};

/// A pair of tokens, keys in the order that clients rely on.
#[derive(Serialize)]
pub(super) struct PairBody {
    token: String,
    refresh_token: String,
    token_type: &'static str,
    expires_in: i64,
    refresh_expires_in: i64,
}

impl From<Pair> for PairBody {
    fn from(pair: Pair) -> Self {
        Self {
            token: pair.token,
            refresh_token: pair.refresh_token,
            token_type: "JWT",
            expires_in: pair.expires_in,
            refresh_expires_in: pair.refresh_expires_in,
        }
    }
}

/// Two required fields, or the faults of both in one answer.
pub(super) fn both<'a>(
    fields: [(&'static str, Result<&'a str, FieldFault>); 2],
) -> Result<[&'a str; 2], ApiError> {
    match fields {
        [(_, Ok(first)), (_, Ok(second))] => Ok([first, second]),
        fields => Err(ApiError::Fields(
            fields.into_iter().filter_map(|(name, field)| Some((name, field.err()?))).collect(),
        )),
    }
}

/// One required field, or its fault.
fn one<'a>(name: &'static str, field: Result<&'a str, FieldFault>) -> Result<&'a str, ApiError> {
    field.map_err(|fault| ApiError::Fields(vec![(name, fault)]))
}

/// `POST /api/v1/token-auth/`
pub(super) async fn login(
    State(tokens): State<TokenService>,
    State(settings): State<Settings>,
    _counted: PasswordDoor,
    origin: Origin,
    fields: Fields,
) -> Result<Json<PairBody>, ApiError> {
    let username = fields
        .text("username")
        .and_then(|name| if name.trim().is_empty() { Err(FieldFault::Missing) } else { Ok(name) });
    let [username, password] =
        both([("username", username), ("password", fields.text("password"))])?;
    let login = Login {
        username: username.to_owned(),
        password: Password::new(password.to_owned()),
        address: origin.address,
        user_agent: origin.user_agent,
    };
    let refused = settings.load().api.invalid_credentials_status;
    let pair = tokens.login(login).await.map_err(|error| ApiError::from_login(error, refused))?;
    Ok(Json(pair.into()))
}

#[derive(Serialize)]
struct TokenBody {
    token: String,
}

/// `POST /api/v1/token-refresh/`. `token` is the other name of `refresh_token`, and may be an access
/// token where `sessions.refresh_with_access_token` allows it.
pub(super) async fn refresh(
    State(tokens): State<TokenService>,
    State(settings): State<Settings>,
    _counted: RefreshDoor,
    origin: Origin,
    fields: Fields,
) -> Result<Response, ApiError> {
    let named = fields.any_text("refresh_token");
    let other = matches!(named, Err(FieldFault::Missing));
    let given = if other { fields.any_text("token") } else { named };
    let token = one("refresh_token", given)?;
    let config = settings.load_full();
    let refused = |error| ApiError::from_refresh(error, config.api.invalid_credentials_status);
    if other && config.sessions.refresh_with_access_token && token.contains('.') {
        let token = tokens.renew_access_token(token).await.map_err(refused)?;
        return Ok(Json(TokenBody { token }).into_response());
    }
    let pair = tokens.refresh(token, origin.address).await.map_err(refused)?;
    Ok(Json(PairBody::from(pair)).into_response())
}

/// `POST /api/v1/token-verify/`: the token and what it says, or 401.
pub(super) async fn verify(
    State(tokens): State<TokenService>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let token = one("token", fields.any_text("token"))?;
    let verified = tokens.verify(token).await?;
    // A verified token is base64url and dots, and its claims are JSON already.
    let body = format!(r#"{{"token":"{token}","claims":{}}}"#, verified.claims_json(token));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

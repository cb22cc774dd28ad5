//! Every public route on one screen.

use axum::Router;
use axum::handler::Handler;
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodRouter, any, delete, get, post};

use super::envelope::{Enveloped, PublicState};
use super::error::ApiError;
use super::{forward_auth, health, key, session, token, user};

const POST: &str = "POST, OPTIONS";
const GET: &str = "GET, HEAD, OPTIONS";
const GET_DELETE: &str = "GET, HEAD, DELETE, OPTIONS";
const DELETE: &str = "DELETE, OPTIONS";

/// The public listener (contract sections 1 to 5). Under `/api` every path has two spellings.
pub fn public(state: PublicState) -> Enveloped {
    let login = ["/api/v1/token-auth", "/api/v2/token-auth"];
    let refresh = [
        "/api/v1/token-refresh",
        "/api/v1/api-token-refresh",
        "/api/v2/api-token-refresh",
        "/api/v2/token-refresh",
    ];
    let verify = ["/api/v1/token-verify", "/api/v1/api-token-verify"];
    let sessions = get(session::list).delete(session::end_others);

    Routes::default()
        .api(&login, POST, &post(token::login))
        .api(&refresh, POST, &post(token::refresh))
        .api(&verify, POST, &post(token::verify))
        .api(&["/api/v1/me"], GET, &get(user::me))
        .api(&["/api/v1/logout"], POST, &post(session::logout))
        .api(&["/api/v1/sessions"], GET_DELETE, &sessions)
        .api(&["/api/v1/sessions/{id}"], DELETE, &delete(session::end))
        .api(&["/api/v1/password-change"], POST, &post(user::change_password))
        .plain("/.well-known/jwks.json", GET, get(key::jwks))
        .plain("/healthz", GET, get(health::healthz))
        .plain("/readyz", GET, get(health::readyz))
        .any_method("/forward-auth", forward_auth::forward_auth)
        .any_method("/forward-auth-roles/{roles}", forward_auth::forward_auth_roles)
        .finish(state)
}

#[derive(Default)]
pub(crate) struct Routes(Router<PublicState>);

impl Routes {
    /// A path with and without the trailing slash, under all its names.
    fn api(
        mut self,
        paths: &[&str],
        allow: &'static str,
        methods: &MethodRouter<PublicState>,
    ) -> Self {
        for path in paths {
            self = self.plain(path, allow, methods.clone());
            self = self.plain(&format!("{path}/"), allow, methods.clone());
        }
        self
    }

    /// One path as it is. OPTIONS tells what it allows; so does the refusal of another method.
    pub(crate) fn plain(
        self,
        path: &str,
        allow: &'static str,
        methods: MethodRouter<PublicState>,
    ) -> Self {
        let methods = methods
            .options(move || async move { (StatusCode::NO_CONTENT, [(ALLOW, allow)]) })
            .fallback(
                move |method: Method| async move { ApiError::MethodNotAllowed(method, allow) },
            );
        Self(self.0.route(path, methods))
    }

    /// A path, itself and with anything behind it, for every method: proxies append theirs.
    fn any_method<H, T>(self, path: &str, handler: H) -> Self
    where
        H: Handler<T, PublicState>,
        T: 'static,
    {
        let router = self
            .0
            .route(path, any(handler.clone()))
            .route(&format!("{path}/"), any(handler.clone()))
            .route(&format!("{path}/{{*rest}}"), any(handler));
        Self(router)
    }

    /// Lets the admin listener put its own check in front of all routes, inside the envelope.
    pub(crate) fn guarded(
        self,
        guard: impl FnOnce(Router<PublicState>) -> Router<PublicState>,
    ) -> Self {
        Self(guard(self.0))
    }

    /// Everything else is not found; the envelope goes around all of it.
    pub(crate) fn finish(self, state: PublicState) -> Enveloped {
        let router = self.0.fallback(|| async { ApiError::NotFound }).with_state(state.clone());
        Enveloped::new(state, router)
    }
}

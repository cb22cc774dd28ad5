//! Which route a path belongs to, as metrics and traces call it: a closed list, whatever callers
//! send. What is served is in `router`; a test holds the two together.

use axum::http::Method;

use crate::telemetry::RouteClass;

/// A route that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The kind of call.
    pub(super) class: RouteClass,
    /// The path as the router has it, without a slash at the end; `None` for paths that are not
    /// served.
    pub(super) template: Option<&'static str>,
}

/// Paths without parameters, the busiest first.
const PLAIN: &[(&str, RouteClass)] = &[
    ("/api/v1/me", RouteClass::Me),
    ("/forward-auth", RouteClass::ForwardAuth),
    ("/api/v1/token-verify", RouteClass::TokenVerify),
    ("/api/v1/token-refresh", RouteClass::TokenRefresh),
    ("/api/v1/token-auth", RouteClass::TokenAuth),
    ("/api/v2/token-auth", RouteClass::TokenAuth),
    ("/api/v2/token-refresh", RouteClass::TokenRefresh),
    ("/api/v1/api-token-refresh", RouteClass::TokenRefresh),
    ("/api/v2/api-token-refresh", RouteClass::TokenRefresh),
    ("/api/v1/api-token-verify", RouteClass::TokenVerify),
    ("/api/v1/logout", RouteClass::Logout),
    ("/api/v1/sessions", RouteClass::Sessions),
    ("/api/v1/password-change", RouteClass::PasswordChange),
    ("/.well-known/jwks.json", RouteClass::Jwks),
    ("/healthz", RouteClass::Health),
    ("/readyz", RouteClass::Health),
    ("/metrics", RouteClass::Other),
    ("/demo/clock", RouteClass::Other),
];

impl Route {
    /// The route of a request's path.
    pub(super) fn of(path: &str) -> Self {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let plain = PLAIN.iter().find(|(template, _)| *template == bare);
        let found = plain.copied().or_else(|| with_parameters(bare));
        Self {
            class: found.map_or(RouteClass::Other, |(_, class)| class),
            template: found.map(|(template, _)| template),
        }
    }
}

impl Route {
    /// Whether a request with that method changes something, and so is answered by a task that no
    /// client can end (`envelope`). Verifying does not.
    pub(super) fn changes_something(self, method: &Method) -> bool {
        let verifies = matches!(self.class, RouteClass::TokenVerify | RouteClass::ForwardAuth);
        !verifies && !method.is_safe()
    }

    /// Whether its answers are lists: a page of a hundred sessions takes some 70 KiB at most. All others
    /// are short.
    pub(super) fn answers_lists(self) -> bool {
        self.class == RouteClass::Sessions
    }
}

fn with_parameters(path: &str) -> Option<(&'static str, RouteClass)> {
    if path.strip_prefix("/api/v1/sessions/").is_some_and(|id| !id.contains('/')) {
        return Some(("/api/v1/sessions/{id}", RouteClass::Sessions));
    }
    if path.starts_with("/forward-auth/") {
        return Some(("/forward-auth/{*rest}", RouteClass::ForwardAuth));
    }
    let roles = path.strip_prefix("/forward-auth-roles/")?;
    let template = if roles.contains('/') {
        "/forward-auth-roles/{roles}/{*rest}"
    } else {
        "/forward-auth-roles/{roles}"
    };
    Some((template, RouteClass::ForwardAuth))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every path in the source of a router, parameters and all.
    fn served(router: &str) -> Vec<&str> {
        let parts = router.split('"').skip(1).step_by(2);
        parts.filter(|text| text.starts_with('/') && text.len() > 1).collect()
    }

    #[test]
    fn every_route_that_is_served_has_its_template() {
        let public = served(include_str!("router.rs"));
        let admin = served(include_str!("../admin/mod.rs"));
        assert!(public.len() > 15 && admin.len() > 3, "{public:?} {admin:?}");
        for path in public.into_iter().chain(admin) {
            let asked = path.replace("{id}", "0190b7c2").replace("{roles}", "a,b");
            for asked in [asked.clone(), format!("{asked}/")] {
                assert_eq!(Route::of(&asked).template, Some(path), "{asked}: add it to route.rs");
            }
        }
    }

    #[test]
    fn what_callers_make_up_is_other() {
        for path in
            ["", "/", "//", "/api/v1/me/x", "/api/v3/me", "/api/v1/sessions/a/b", "/Healthz"]
        {
            assert_eq!(
                Route::of(path),
                Route { class: RouteClass::Other, template: None },
                "{path}"
            );
        }
        assert_eq!(Route::of("/forward-auth/any/thing").template, Some("/forward-auth/{*rest}"));
        let roles = Route::of("/forward-auth-roles/a/x/y");
        assert_eq!(roles.template, Some("/forward-auth-roles/{roles}/{*rest}"));
    }
}

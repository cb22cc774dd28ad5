//! The values that labels may take: each a closed list, so that no caller can make a new one.

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// Every value.
            pub(super) fn all() -> impl Iterator<Item = Self> + Clone {
                Self::ALL.iter().copied()
            }

            /// The label's value.
            pub(super) fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

labels!(
    /// How a login ended.
    LoginOutcome {
        Granted = "granted", Refused = "refused", Overloaded = "overloaded", Failed = "failed"
    }
);
labels!(
    /// How a refresh ended.
    RefreshOutcome {
        Rotated = "rotated", Replayed = "replayed", Refused = "refused", Expired = "expired",
        ReuseDetected = "reuse_detected", StateLost = "state_lost", Failed = "failed"
    }
);
labels!(
    /// How a verification ended.
    VerifyOutcome {
        Valid = "valid", Invalid = "invalid", Expired = "expired", Revoked = "revoked"
    }
);
labels!(
    /// What kind of call a request is, whatever the spelling of its path.
    RouteClass {
        /// Logging in.
        TokenAuth = "token-auth",
        /// Refreshing.
        TokenRefresh = "token-refresh",
        /// Checking a token given in a body.
        TokenVerify = "token-verify",
        /// The caller's profile.
        Me = "me",
        /// Listing and ending sessions.
        Sessions = "sessions",
        /// Logging out.
        Logout = "logout",
        /// Changing the own password.
        PasswordChange = "password-change",
        /// What proxies ask, with and without roles.
        ForwardAuth = "forward-auth",
        /// The public keys.
        Jwks = "jwks",
        /// Probes.
        Health = "health",
        /// Everything else, paths that do not exist included.
        Other = "other"
    }
);
labels!(
    /// A door that is throttled.
    Door {
        /// Logging in.
        TokenAuth = "token_auth",
        /// Refreshing.
        TokenRefresh = "token_refresh",
        /// Changing the own password.
        PasswordChange = "password_change"
    }
);
labels!(
    /// The rule by which a request was throttled.
    Rule {
        /// Too many requests of one client address.
        Address = "address",
        /// Too many failures of one name from one network.
        Network = "network",
        /// Too many failures of one name from everywhere.
        Account = "account"
    }
);
labels!(
    /// Why the server cut a connection.
    Cut {
        /// Its request head took too long.
        Header = "header",
        /// Its request body took too long.
        Body = "body",
        /// It did nothing for too long.
        Idle = "idle",
        /// It did not take its answer.
        Write = "write",
        /// There were too many connections.
        Cap = "cap"
    }
);

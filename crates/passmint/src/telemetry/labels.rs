//! The values that labels may take: each a closed list, so that no caller can make a new one.

use crate::throttle::{Door, Rule};

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
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

labels!(
    /// How a login ended.
    LoginOutcome {
        Granted = "granted", Refused = "refused", Throttled = "throttled",
        Overloaded = "overloaded", ClientGone = "client_gone", Failed = "failed"
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
    /// Why the server cut a connection.
    CutReason {
        /// Its request head took too long.
        Head = "head",
        /// Its request body took too long.
        Body = "body",
        /// It did nothing for too long.
        Idle = "idle",
        /// It did not take its answer.
        Write = "write",
        /// There were too many connections.
        TooMany = "too_many"
    }
);
labels!(
    /// Why a client's address may be that of several clients.
    AddressDoubt {
        /// A forwarding header came from a peer that is no trusted proxy, and did not count.
        UntrustedPeer = "untrusted_peer",
        /// A trusted proxy wrote a hop that is no address.
        UnreadableHop = "unreadable_hop"
    }
);

/// The label of a throttled endpoint.
pub(super) fn door(door: Door) -> &'static str {
    match door {
        Door::TokenAuth => "token_auth",
        Door::TokenRefresh => "token_refresh",
        Door::Change => "change",
    }
}

/// The label of a rule of the throttle.
pub(super) fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::Address => "address",
        Rule::Network => "network",
        Rule::Neighbourhood => "neighbourhood",
        Rule::Account => "account",
        Rule::AllUsers => "all_users",
        Rule::Changes => "changes",
    }
}

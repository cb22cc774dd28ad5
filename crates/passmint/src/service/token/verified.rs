//! What a verified access token comes to.

use passmint_verify::{Claims, KnownClaims, payload_of};

use super::VerifyError;
use crate::domain::revocation::TokenSubject;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;

/// An access token that was found genuine.
#[derive(Debug)]
pub struct Verified {
    /// The part that revocation looks at.
    pub subject: TokenSubject,
    /// `exp`, seconds since 1970.
    pub expires_at: i64,
    /// Who its user is: as it says, or if another service signed it, by this server's own table.
    pub names: Names,
    /// Of a token that another service signed.
    pub(super) foreign: Option<LookedUp>,
}

/// What the user table said of the user of a token that another service signed.
#[derive(Debug)]
pub(super) struct LookedUp {
    /// When, by the steady clock.
    pub(super) at: Timestamp,
    /// The newest ending of its sessions then.
    pub(super) ending: Option<i64>,
    /// What stands for the token's claims.
    pub(super) json: String,
}

/// Who a user is, in one piece: a verification makes one of them.
#[derive(Debug)]
pub struct Names {
    texts: String,
    /// Where subject, username and e-mail end.
    ends: [usize; 3],
}

impl Names {
    pub(super) fn new<'a>(
        subject: &str,
        username: &str,
        email: &str,
        roles: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let [first, second] = [subject.len(), subject.len() + username.len()];
        let ends = [first, second, second + email.len()];
        let roles_length = roles.clone().map(|role| role.len() + 1).sum::<usize>();
        let mut texts = String::with_capacity(second + email.len() + roles_length);
        for text in [subject, username, email] {
            texts.push_str(text);
        }
        for (number, role) in roles.enumerate() {
            if number > 0 {
                texts.push(',');
            }
            texts.push_str(role);
        }
        Self { texts, ends }
    }

    /// `sub`.
    pub fn subject(&self) -> &str {
        self.between(0, self.ends[0])
    }

    /// May be empty.
    pub fn username(&self) -> &str {
        self.between(self.ends[0], self.ends[1])
    }

    /// May be empty.
    pub fn email(&self) -> &str {
        self.between(self.ends[1], self.ends[2])
    }

    /// Parted by commas, which no role holds; may be empty.
    pub fn roles(&self) -> &str {
        self.between(self.ends[2], self.texts.len())
    }

    fn between(&self, from: usize, to: usize) -> &str {
        self.texts.get(from..to).unwrap_or_default()
    }
}

impl Verified {
    /// A token that was just checked.
    pub(super) fn of(claims: &Claims, foreign: Option<LookedUp>) -> Result<Self, VerifyError> {
        let session = claims.session.as_deref();
        let session = session.map(|id| SessionId::parse(id).ok_or(VerifyError::Invalid));
        let roles = claims.roles.iter().map(String::as_str);
        Ok(Self {
            subject: TokenSubject {
                user: Some(UserId::of_subject(&claims.subject)),
                session: session.transpose()?,
                generation: claims.generation,
                user_epoch: claims.user_epoch,
            },
            expires_at: claims.expires_at,
            names: Names::new(&claims.subject, &claims.username, &claims.email, roles),
            foreign,
        })
    }

    /// One of our own that was checked before.
    pub(super) fn of_known(token: &str) -> Option<Self> {
        let payload = payload_of(token)?;
        let claims = KnownClaims::read(&payload)?;
        let roles = claims.roles.iter().map(|role| &*role.0);
        Some(Self {
            subject: TokenSubject {
                user: Some(UserId::of_subject(&claims.subject)),
                session: Some(SessionId::parse(&claims.session)?),
                generation: claims.generation,
                user_epoch: claims.user_epoch,
            },
            expires_at: claims.expires_at,
            names: Names::new(&claims.subject, &claims.username, &claims.email, roles),
            foreign: None,
        })
    }

    /// The claims of the token that this is of, as JSON: its payload as it was signed, or what stands for
    /// that of another service.
    pub fn claims_json(&self, token: &str) -> String {
        match &self.foreign {
            Some(looked_up) => looked_up.json.clone(),
            None => {
                payload_of(token).and_then(|json| String::from_utf8(json).ok()).unwrap_or_default()
            }
        }
    }
}

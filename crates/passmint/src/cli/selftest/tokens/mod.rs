//! Attacks on access tokens. A family is a file: it says which tokens it makes, and here they are
//! presented at every door that takes one. All must be refused with the one documented answer.
//!
//! Without the server's private key no changed header or claim can be signed, so what such a token
//! finds is a server that does not check the signature, or checks it with a key of the attacker's.

mod algorithm;
mod bait;
mod claims;
mod door;
mod form;
mod header;
mod key_id;
mod signature;
mod transport;

use serde_json::Value;

use self::bait::Bait;
use self::door::Door;
use super::forge::{Compact, OwnKey};
use super::ground::{Ground, Pair, nobody};
use super::judgement::{Fault, Judgement};
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Tokens;
/// What is said of every token that is not genuine.
const REFUSED: &str = "Error decoding signature.";

/// A token made up by an attacker, and how.
struct Forgery {
    what: String,
    token: String,
}

impl Forgery {
    fn new(what: impl Into<String>, token: impl Into<String>) -> Self {
        Self { what: what.into(), token: token.into() }
    }
}

/// One check: forgeries of a kind.
struct Attack {
    name: String,
    forgeries: Vec<Forgery>,
}

impl Attack {
    fn new(name: impl Into<String>, forgeries: Vec<Forgery>) -> Self {
        Self { name: name.into(), forgeries }
    }
}

/// What forgeries are made from.
struct Material {
    /// A token of the user.
    genuine: Compact,
    /// One of another session of the user.
    other: Compact,
    /// The server's public keys, as the JWKS has them.
    keys: Vec<Value>,
    /// The attacker's.
    own: OwnKey,
    /// A name nobody has.
    nobody: String,
}

impl Material {
    async fn gather(ground: &Ground) -> Result<(Self, Pair), Fault> {
        let (pair, other) = (ground.login().await?, ground.login().await?);
        let read = |token: &str| {
            let no_token = || Fault::Untested("what the login gives is no JWS".to_owned());
            Compact::read(token).ok_or_else(no_token)
        };
        let genuine = read(&pair.token)?;
        let keys = ground.public_keys().await;
        let keys = keys.map_err(|fault| fault.with("cannot read the JWKS").into_untested())?;
        let own = OwnKey::like(genuine.header_text("alg"))?;
        let other = read(&other.token)?;
        Ok((Self { genuine, other, keys, own, nobody: nobody()? }, pair))
    }

    /// The kid of the genuine token.
    fn kid(&self) -> &str {
        self.genuine.header_text("kid")
    }
}

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let (material, pair) = match Material::gather(ground).await {
        Ok(gathered) => gathered,
        Err(fault) => return sheet.enter(GROUP, "a token to attack with", "a login", Err(fault)),
    };
    let doors = match door::open(ground, &pair.token).await {
        Ok(doors) => {
            let names: Vec<&str> = doors.iter().map(|door| door.path()).collect();
            let seen = Ok(format!("200 at {}", names.join(", ")));
            sheet.enter(GROUP, "genuine token", "200", seen);
            doors
        }
        Err(fault) => return sheet.enter(GROUP, "genuine token", "200", Err(fault)),
    };
    forgeries(ground, sheet, &material, &doors).await;
    transport::run(ground, sheet, &pair, &doors).await;
    let still = door::open(ground, &pair.token).await;
    let still = still.map(|_| "200: no attack did it harm".to_owned());
    sheet.enter(GROUP, "genuine token after all attacks", "200", still);
}

async fn forgeries(ground: &Ground, sheet: &mut Sheet, material: &Material, doors: &[Door]) {
    let expected = format!("401 `{REFUSED}`");
    let bait = Bait::lay(&material.own).await;
    let jku = bait.as_ref().map_or("https://127.0.0.1:1/jwks.json", Bait::url);
    let families = [
        Ok(algorithm::attacks(material)),
        key_id::attacks(material),
        header::attacks(material, jku),
        Ok(form::attacks(material)),
        Ok(signature::attacks(material)),
        claims::attacks(material),
    ];
    for family in families {
        match family {
            Ok(attacks) => {
                for attack in attacks {
                    let judgement = all_refused(ground, &attack, doors, material).await;
                    sheet.enter(GROUP, attack.name, expected.as_str(), judgement);
                }
            }
            Err(fault) => sheet.enter(GROUP, "forgeries", "can be made", Err(fault)),
        }
    }
    let judgement = match bait {
        Some(bait) => bait.judge(ground.client.target()),
        None => Err(Fault::Untested("no port to listen on".to_owned())),
    };
    sheet.enter(GROUP, "jku and x5u are not fetched", "no request to the named URL", judgement);
}

/// Presents every forgery at every door.
async fn all_refused(
    ground: &Ground,
    attack: &Attack,
    doors: &[Door],
    material: &Material,
) -> Judgement {
    let mut tries = 0;
    for forgery in &attack.forgeries {
        // Some changes leave a token as it was, by chance: that is no forgery.
        if forgery.token == material.genuine.text {
            continue;
        }
        for door in doors.iter().filter(|door| door.can_carry(&forgery.token)) {
            let refused = door.must_refuse(ground, &forgery.token).await;
            refused.map_err(|fault| fault.with(&format!("{} at {}", forgery.what, door.path())))?;
            tries += 1;
        }
    }
    if tries == 0 {
        return Err(Fault::Untested("does not apply to this server's keys".to_owned()));
    }
    Ok(format!("{tries} tries, all 401"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    /// Tokens as a server with a key of that kind gives them, and the server's key.
    pub(super) fn material(alg: &str) -> Material {
        let server = OwnKey::like(alg).unwrap();
        let header = json!({ "typ": "JWT", "alg": alg, "kid": server.kid() }).to_string();
        let token = |sub: &str| {
            let claims = json!({
                "iss": "passmint", "sub": sub, "iat": 1, "exp": 86_401, "sid": "s", "uep": 0,
                "roles": [], "username": "asha", "token_type": "access",
            });
            Compact::read(&server.signed(&header, &claims.to_string()).unwrap()).unwrap()
        };
        Material {
            genuine: token("1"),
            other: token("2"),
            keys: vec![server.jwk.clone()],
            own: OwnKey::like(alg).unwrap(),
            nobody: "0123456789abcdef".to_owned(),
        }
    }

    fn all_attacks(material: &Material) -> Vec<Attack> {
        let families = [
            algorithm::attacks(material),
            key_id::attacks(material).unwrap(),
            header::attacks(material, "http://127.0.0.1:1/jwks.json").unwrap(),
            form::attacks(material),
            signature::attacks(material),
            claims::attacks(material).unwrap(),
        ];
        families.into_iter().flatten().collect()
    }

    #[test]
    fn no_forgery_is_a_good_token_by_the_rules_that_the_server_goes_by() {
        use passmint_verify::{Jwk, KeySet, Rules, VerifyingKey, verify};
        let rules = Rules { issuer: "passmint".into(), audience: None, max_lifetime: i64::MAX };
        for alg in ["ES256", "EdDSA", "RS256"] {
            let material = material(alg);
            let jwk: Jwk = serde_json::from_value(material.keys[0].clone()).unwrap();
            let mut keys = KeySet::default();
            keys.insert(jwk.kid.clone(), VerifyingKey::try_from(&jwk).unwrap());
            verify(&material.genuine.text, &keys, &rules, 2).unwrap();
            for attack in all_attacks(&material) {
                for Forgery { what, token } in attack.forgeries {
                    let same = token == material.genuine.text;
                    let name = &attack.name;
                    assert!(same || verify(&token, &keys, &rules, 2).is_err(), "{name}: {what}");
                    assert!(!token.is_empty() && token.len() < 15_000, "{name}: {what}");
                }
            }
        }
    }

    #[test]
    fn every_attack_has_a_name_of_its_own_and_something_to_try() {
        let attacks = all_attacks(&material("ES256"));
        let names: std::collections::HashSet<&str> =
            attacks.iter().map(|attack| attack.name.as_str()).collect();
        assert_eq!(names.len(), attacks.len());
        for attack in &attacks {
            assert!(!attack.forgeries.is_empty(), "{}", attack.name);
        }
    }
}

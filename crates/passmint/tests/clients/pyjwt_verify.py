"""A Python service that checks Passmint's tokens by itself: PyJWT and the published keys, one pinned algorithm.

Also the forger against it, and against the server: a changed payload, `alg` none, and the public key used as an HMAC
secret must be refused by both.
"""

import hashlib
import hmac
import json
import os

import jwt
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from checks import (
    UNDECODABLE,
    base_url,
    claims_of,
    credentials,
    expect,
    expect_that,
    header_of,
    ok,
    run,
    tampered,
    unpadded,
)

THUMBPRINT_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
KEY_TYPES = {"ES256": "EC", "EdDSA": "OKP", "RS256": "RSA"}
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
CLAIM_TYPES = {
    "iss": (str,),
    "sub": (str,),
    "iat": (int,),
    "exp": (int,),
    "jti": (str,),
    "sid": (str,),
    "gen": (int,),
    "uep": (int,),
    "roles": (list,),
    "user_id": (int, str),
    "username": (str,),
    "email": (str,),
    "orig_iat": (int,),
    "token_type": (str,),
}

http = requests.Session()
http.trust_env = False


def thumbprint(jwk):
    """RFC 7638: SHA-256 over the required members, sorted, without white space."""
    required = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return unpadded(hashlib.sha256(text.encode("ascii")).digest())


def check_keys(base, alg, kid):
    answer = http.get(f"{base}/.well-known/jwks.json")
    expect("status of the JWKS", answer.status_code, 200)
    lifetime = answer.headers.get("Cache-Control", "")
    expect_that("Cache-Control of the JWKS has a max-age and no no-store", cacheable(lifetime), lifetime)
    keys = answer.json()["keys"]
    for jwk in keys:
        leaked = PRIVATE_MEMBERS & jwk.keys()
        expect_that(f"the JWK {jwk.get('kid')} has public members only", not leaked, sorted(leaked))
        expect("kid of a JWK is its thumbprint", jwk.get("kid"), thumbprint(jwk))
    expect("number of keys with the kid of the token", [jwk["kid"] for jwk in keys].count(kid), 1)
    jwk = next(jwk for jwk in keys if jwk["kid"] == kid)
    expect("kty of the key", jwk["kty"], KEY_TYPES[alg])
    expect("alg of the key", jwk.get("alg"), alg)
    expect("use of the key", jwk.get("use"), "sig")
    ok(f"{len(keys)} public key(s), kid is the RFC 7638 thumbprint {kid}")


def cacheable(header):
    directives = header.replace(" ", "").split(",")
    return "no-store" not in directives and any(d.startswith("max-age=") and int(d[8:]) > 0 for d in directives)


def check_claims(claims, user):
    for name, types in CLAIM_TYPES.items():
        expect_that(f"the claim {name} is there", name in claims, sorted(claims))
        expected = " or ".join(t.__name__ for t in types)
        expect_that(f"the claim {name} is of type {expected}", type(claims[name]) in types, claims[name])
    expect("exp - iat", claims["exp"] - claims["iat"], 86_400)
    expect("orig_iat of a new session", claims["orig_iat"], claims["iat"])
    expect("sub", claims["sub"], str(claims["user_id"]))
    expect("username", claims["username"], user)
    expect("token_type", claims["token_type"], "access")
    expect_that("roles are strings", all(type(role) is str for role in claims["roles"]), claims["roles"])
    for name in ("iss", "sub", "jti", "sid"):
        expect_that(f"the claim {name} is not empty", claims[name], claims[name])
    ok("all claims are there with their types, exp - iat == 86400")


def forgeries(token, pem):
    """What an attacker makes who has one genuine token and the public key."""
    payload = token.split(".")[1]
    hmac_header = unpadded(json.dumps({**header_of(token), "alg": "HS256"}, separators=(",", ":")).encode())
    mac = hmac.new(pem, f"{hmac_header}.{payload}".encode("ascii"), hashlib.sha256).digest()
    none_header = unpadded(json.dumps({**header_of(token), "alg": "none"}, separators=(",", ":")).encode())
    return {
        "one changed byte of the payload": tampered(token),
        "alg none": f"{none_header}.{payload}.",
        "alg none with the old signature": f"{none_header}.{payload}.{token.split('.')[2]}",
        "HS256 with the public key as secret": f"{hmac_header}.{payload}.{unpadded(mac)}",
        "another header, the old signature": f"{hmac_header}.{payload}.{token.split('.')[2]}",
    }


def verify_at_server(base, token):
    return http.post(f"{base}/api/v1/token-verify/", json={"token": token})


def client():
    base, alg = base_url("ALG")
    expect_that(f"ALG is one of {sorted(KEY_TYPES)}", alg in KEY_TYPES, alg)
    user, password = credentials()
    answer = http.post(f"{base}/api/v1/token-auth/", json={"username": user, "password": password})
    expect(f"status of the login; body {answer.text}", answer.status_code, 200)
    token = answer.json()["token"]

    header = header_of(token)
    expect("typ of the token's header", header.get("typ"), "JWT")
    expect("alg of the token's header", header.get("alg"), alg)
    check_keys(base, alg, header.get("kid"))
    check_claims(claims_of(token), user)

    keys = jwt.PyJWKClient(f"{base}/.well-known/jwks.json")
    issuer = os.environ.get("PASSMINT_ISSUER") or claims_of(token)["iss"]
    audience = claims_of(token).get("aud")  # PyJWT refuses a token with `aud` unless the service names its own

    def verify(candidate):
        key = keys.get_signing_key_from_jwt(candidate)
        return jwt.decode(candidate, key.key, algorithms=[alg], issuer=issuer, audience=audience)

    try:
        claims = verify(token)
    except jwt.PyJWTError as refused:
        expect_that("PyJWT accepts the token", False, f"{type(refused).__name__}: {refused}")
    expect("claims that PyJWT read", claims, claims_of(token))
    ok(f"PyJWT {jwt.__version__} accepts the token with algorithms=['{alg}'] and issuer={issuer!r}")
    answer = verify_at_server(base, token)
    expect(
        "answer of /api/v1/token-verify/",
        (answer.status_code, answer.json()),
        (200, {"token": token, "claims": claims}),
    )
    ok("the server accepts it too, and shows the same claims")

    pem = keys.get_signing_key_from_jwt(token).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for what, forged in forgeries(token, pem).items():
        try:
            accepted = verify(forged)
        except jwt.PyJWTError as refused:
            reason = type(refused).__name__
        else:
            expect_that(f"PyJWT refuses a token with {what}", False, accepted)
        answer = verify_at_server(base, forged)
        expect(f"status of /api/v1/token-verify/ for {what}", answer.status_code, 401)
        expect(f"body of /api/v1/token-verify/ for {what}", answer.content, UNDECODABLE)
        expect("its WWW-Authenticate", answer.headers.get("WWW-Authenticate"), 'JWT realm="api"')
        used = http.get(f"{base}/api/v1/me/", headers={"Authorization": f"JWT {forged}"})
        expect(f"answer of /api/v1/me/ for {what}", (used.status_code, used.content), (401, UNDECODABLE))
        ok(f"{what}: refused by PyJWT ({reason}) and by the server")


if __name__ == "__main__":
    run(client)

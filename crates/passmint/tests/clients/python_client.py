"""The Python clients: scripts, Odoo modules and ERP connectors that use `requests`.

They log in with json=, data= or files=, with and without the slash at the end, refresh under the field names of both
versions, read `error` without looking at the status first, and either keep a token until shortly before it ends or log
in before every call. The last two classes below are such clients in full.
"""

import json
import re
import secrets
import time
from datetime import datetime

import requests

from checks import base_url, claims_of, credentials, expect, expect_that, ok, run, tampered

WRONG_CREDENTIALS = b'{"error":"Unable to login with provided credential"}'
WRONG_REFRESH_TOKEN = b'{"error":"Invalid refresh token"}'
PAIR = re.compile(
    rb'\{"token":"([\w-]+\.[\w-]+\.[\w-]+)","refresh_token":"([^"\\\s]+)",'
    rb'"token_type":"JWT","expires_in":(\d+),"refresh_expires_in":(\d+)\}'
)
DAY, MONTH = 86_400, 2_592_000

http = requests.Session()
http.trust_env = False  # neither proxies nor a .netrc, which would replace the Authorization header


def check(what, answer, status, body=None):
    """What holds for every answer with a body: no redirect on the way, JSON without spaces or charset, not stored."""
    expect(f"redirects on the way to: {what}", len(answer.history), 0)
    expect(f"status of: {what}; body {answer.content!r}", answer.status_code, status)
    if body is not None:
        expect(f"body of: {what}", answer.content, body)
    expect(f"Content-Type of: {what}", answer.headers.get("Content-Type"), "application/json")
    expect(f"Cache-Control of: {what}", answer.headers.get("Cache-Control"), "no-store")
    compact = json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    expect(f"compact form of: {what}", answer.content, compact)


def check_pair(what, answer):
    """The answer of a login or a refresh, byte by byte; returns the two tokens."""
    check(what, answer, 200)
    match = PAIR.fullmatch(answer.content)
    expect_that(f"body of: {what}\n  expected: the form {PAIR.pattern!r}", match, answer.content)
    expect(f"expires_in of: {what}", int(match[3]), DAY)
    expect(f"refresh_expires_in of: {what}", int(match[4]), MONTH)
    return match[1].decode(), match[2].decode()


def check_401(what, answer, text):
    expected = json.dumps({"error": text, "detail": text}, separators=(",", ":")).encode()
    check(what, answer, 401, expected)
    expect(f"WWW-Authenticate of: {what}", answer.headers.get("WWW-Authenticate"), 'JWT realm="api"')


def me(base, token, scheme="JWT"):
    return http.get(f"{base}/api/v1/me/", headers={"Authorization": f"{scheme} {token}"})


def check_logins(base, user, password):
    form = {"username": user, "password": password}
    # What old clients send along and the server must not mind.
    stray_fields = {**form, "grant_type": "password", "client_id": "x", "client_secret": "y"}
    stray_headers = {"Productid": "einvoicing_global", "Service": "online_service", "Authorization": "JWT stale"}
    ways = {
        "json=": {"json": form},
        "data=": {"data": form},
        "files= (multipart)": {"files": {"username": (None, user), "password": (None, password)}},
        "json= with stray fields and headers": {"json": stray_fields, "headers": stray_headers},
        "data= with stray fields and headers": {"data": stray_fields, "headers": stray_headers},
        "json= with a charset": {
            "data": json.dumps(form),
            "headers": {"Content-Type": "application/json; charset=utf-8", "Accept": "text/html"},
        },
    }
    for path in ("/api/v1/token-auth/", "/api/v2/token-auth"):
        for way, arguments in ways.items():
            token, _ = check_pair(f"login at {path} by {way}", http.post(base + path, **arguments))
            expect("username in the payload", claims_of(token).get("username"), user)
            ok(f"login at {path} by {way}")


def check_refused_logins(base, user, password):
    url = f"{base}/api/v1/token-auth/"
    wrong = http.post(url, json={"username": user, "password": password + "x"})
    check("login with a wrong password", wrong, 206, WRONG_CREDENTIALS)
    expect("requests counts 206 as a success", wrong.ok, True)
    stranger = http.post(url, data={"username": f"nobody-{secrets.token_hex(8)}", "password": password})
    check("login of an unknown user", stranger, 206, WRONG_CREDENTIALS)
    expect("headers of the two refused logins", fixed_headers(stranger), fixed_headers(wrong))
    ok("wrong password and unknown user: 206, the same bytes, the same headers")

    both = b'{"username":["missing field"],"password":["missing field"]}'
    for what, arguments, body in [
        ("json= without a password", {"json": {"username": user}}, b'{"password":["missing field"]}'),
        ("data= without a username", {"data": {"password": password}}, b'{"username":["missing field"]}'),
        ("files= without a password", {"files": {"username": (None, user)}}, b'{"password":["missing field"]}'),
        ("json= of an empty object", {"json": {}}, both),
        ("json= with null and empty text", {"json": {"password": "", "username": None}}, both),
        ("no body", {}, both),
    ]:
        check(f"login by {what}", http.post(url, **arguments), 400, body)
        ok(f"login by {what}: 400 {body.decode()}")
    # A success after the failure, so that this run leaves no count in the throttle.
    check_pair("login after the refused ones", http.post(url, json={"username": user, "password": password}))


def fixed_headers(answer):
    return {
        name.lower(): value for name, value in answer.headers.items() if name.lower() not in ("date", "x-request-id")
    }


def check_refresh(base, user, password):
    login = http.post(f"{base}/api/v2/token-auth/", json={"username": user, "password": password})
    first, refresh = check_pair("login before the refreshes", login)
    session = claims_of(first)["sid"]
    sibling = {"Productid": "einvoicing_global", "Service": "online_service", "Authorization": f"JWT {first}"}
    for what, path, arguments in [
        ("json= refresh_token", "/api/v1/token-refresh/", lambda t: {"json": {"refresh_token": t}}),
        ("data= refresh_token", "/api/v2/token-refresh", lambda t: {"data": {"refresh_token": t}}),
        ("files= refresh_token", "/api/v1/api-token-refresh", lambda t: {"files": {"refresh_token": (None, t)}}),
        (
            "json= token, as the sibling API",
            "/api/v2/api-token-refresh/",
            lambda t: {"json": {"token": t}, "headers": sibling},
        ),
        ("data= token", "/api/v1/token-refresh", lambda t: {"data": {"token": t}, "headers": sibling}),
        (
            "both names, where refresh_token counts",
            "/api/v1/token-refresh/",
            lambda t: {"json": {"token": first, "refresh_token": t}},
        ),
    ]:
        token, successor = check_pair(f"refresh by {what}", http.post(base + path, **arguments(refresh)))
        expect_that("a refresh gives another refresh token", successor != refresh, successor)
        expect("the session after a refresh", claims_of(token)["sid"], session)
        check(f"use of the refreshed token ({what})", me(base, token), 200)
        lost, refresh = refresh, successor
        ok(f"refresh at {path} by {what}")
    check("use of the first token of a refreshed session", me(base, first), 200)
    ok("a refresh leaves the earlier access token alone")

    again = http.post(f"{base}/api/v1/token-refresh/", json={"refresh_token": lost})
    check("refresh repeated after a lost answer", again, 200)
    expect("refresh token of the repeated refresh", again.json()["refresh_token"], refresh)
    expect("claims of the repeated refresh", claims_of(again.json()["token"]), claims_of(token))
    ok("a refresh repeated after a lost answer gives the same pair")

    for what, arguments, status, body in [
        (
            "a mangled refresh token",
            {"json": {"refresh_token": refresh[:-1] + ("A" if refresh[-1] != "A" else "B")}},
            206,
            WRONG_REFRESH_TOKEN,
        ),
        ("an access token", {"json": {"refresh_token": token}}, 206, WRONG_REFRESH_TOKEN),
        ("an access token under `token`", {"data": {"token": token}}, 206, WRONG_REFRESH_TOKEN),
        ("no field", {"json": {}}, 400, b'{"refresh_token":["missing field"]}'),
        ("an empty `token`", {"data": {"token": ""}}, 400, b'{"refresh_token":["missing field"]}'),
    ]:
        check(f"refresh with {what}", http.post(f"{base}/api/v1/token-refresh/", **arguments), status, body)
        ok(f"refresh with {what}: {status} {body.decode()}")


def check_use(base, user, password):
    token = http.post(f"{base}/api/v1/token-auth/", json={"username": user, "password": password}).json()["token"]
    claims = claims_of(token)
    for scheme in ("JWT", "jwt", "Bearer", "bearer", "JWT  "):
        answer = me(base, token, scheme)
        check(f"/api/v1/me/ with {scheme!r}", answer, 200)
        profile = answer.json()
        keys = ["id", "username", "email", "first_name", "last_name", "roles", "session_id", "token_expires_at"]
        expect("the first keys of /api/v1/me/", list(profile)[: len(keys)], keys)
        expect("id", profile["id"], claims["user_id"])
        expect("username", profile["username"], user)
        expect("session_id", profile["session_id"], claims["sid"])
        expect("roles", profile["roles"], claims["roles"])
        expect_that(
            "token_expires_at ends in Z", profile["token_expires_at"].endswith("Z"), profile["token_expires_at"]
        )
        expect(
            "token_expires_at", datetime.fromisoformat(profile["token_expires_at"]).timestamp(), float(claims["exp"])
        )
        ok(f"/api/v1/me/ with Authorization: {scheme} TOKEN")
    check("/api/v1/me without the slash", http.get(f"{base}/api/v1/me", headers={"Authorization": f"JWT {token}"}), 200)

    not_provided = "Authentication credentials were not provided."
    check_401("no header", http.get(f"{base}/api/v1/me/"), not_provided)
    for value, text in {
        "Token TOKEN": not_provided,
        "TOKEN": not_provided,
        "JWT": "Invalid Authorization header. No credentials provided.",
        "JWT TOKEN x": "Invalid Authorization header. Credentials string should not contain spaces.",
        "JWT TAMPERED": "Error decoding signature.",
        "JWT garbage": "Error decoding signature.",
    }.items():
        sent = value.replace("TOKEN", token).replace("TAMPERED", tampered(token))
        answer = http.get(f"{base}/api/v1/me/", headers={"Authorization": sent})
        check_401(f"/api/v1/me/ with Authorization: {value}", answer, text)
        ok(f"/api/v1/me/ with Authorization: {value}: 401 {text}")


class CachingClient:
    """An integrator's connector: one token in a cache, renewed five minutes before its end, one new login on 401."""

    def __init__(self, base, user, password):
        self.base, self.user, self.password = base, user, password
        self.token, self.logins = None, 0

    def login(self):
        answer = http.post(f"{self.base}/api/v1/token-auth/", data={"username": self.user, "password": self.password})
        body = answer.json()
        if "token" not in body:  # 206 or 400: the status is not looked at
            raise PermissionError(body["error"])
        self.token, self.logins = body["token"], self.logins + 1

    def call(self):
        if self.token is None or claims_of(self.token)["exp"] - 300 < time.time():
            self.login()
        answer = me(self.base, self.token)
        if answer.status_code == 401 and "error" in answer.json():
            self.login()
            answer = me(self.base, self.token)
        return answer


def check_caching_client(base, user, password):
    client = CachingClient(base, user, password)
    for _ in range(5):
        check("call of a client with a cached token", client.call(), 200)
    expect("logins for five calls", client.logins, 1)
    ok("a cached token serves five calls with one login")

    ended = client.token
    logout = http.post(f"{base}/api/v1/logout/", headers={"Authorization": f"JWT {ended}"})
    expect("answer to the logout", (logout.status_code, logout.content), (204, b""))
    check_401("a token whose session was ended", me(base, ended), "Token has been revoked.")
    check("call after the session was ended elsewhere", client.call(), 200)
    expect("logins after a 401", client.logins, 2)
    ok('401 {"error":"Token has been revoked."} makes the client log in again, once')

    client.token = tampered(client.token)
    check("call with a damaged cache", client.call(), 200)
    expect("logins after a damaged cache", client.logins, 3)
    ok("a damaged cache heals by one login")

    message = None
    try:
        CachingClient(base, user, password + "x").call()
    except PermissionError as refused:
        message = str(refused)
    expect("message of a client that reads `error` of a 206", message, "Unable to login with provided credential")
    check("call after the refused login", client.call(), 200)
    ok("a client that never looks at the status shows the message of the 206")


class EagerClient(CachingClient):
    """The many that log in before every call."""

    def call(self):
        self.login()
        return me(self.base, self.token)


def check_eager_client(base, user, password):
    client, tokens = EagerClient(base, user, password), []
    for number in range(20):
        check(f"call {number + 1} of a client that logs in before every call", client.call(), 200)
        tokens.append(client.token)
    expect("different tokens of twenty logins", len(set(tokens)), 20)
    for number, token in enumerate(tokens):
        check(f"token of login {number + 1} after twenty logins", me(base, token), 200)
    ok("twenty logins before twenty calls; all twenty tokens still work")


def client():
    base = base_url()
    user, password = credentials()
    parts = check_logins, check_refused_logins, check_refresh, check_use, check_caching_client, check_eager_client
    for part in parts:
        part(base, user, password)
        # Each part stays below the server's limit per address (20 a second, 40 at once); all of them together do not.
        time.sleep(1)


if __name__ == "__main__":
    run(client)

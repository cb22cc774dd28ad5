"""The SAP ABAP client: it has no JSON parser.

It sends the password first, in JSON that was printed over several lines with CRLF, and takes for the token whatever
stands between the first ':' and the next ',' once the quotes are stripped. So `token` must be the first key, a second
key must follow it, and no space may come in between.
"""

import urllib.error
import urllib.request

from checks import base_url, credentials, expect, expect_that, ok, run


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """CL_HTTP_CLIENT reports a redirected POST as the answer it is."""

    def redirect_request(self, *_):
        return None


def call(url, headers, body=None):
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        answer = urllib.request.build_opener(NoRedirect).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read().decode("utf-8")


def post(url, *fields):
    lines = ",\r\n".join(f'  "{name}" : "{quoted(value)}"' for name, value in fields)
    body = "{\r\n" + lines + "\r\n}\r\n"
    return call(url, {"Content-Type": "application/json; charset=utf-8"}, body.encode("utf-8"))


def quoted(text):
    return text.replace("\\", "\\\\").replace('"', '\\"')


def cut(body):
    """SPLIT body AT ':' INTO dummy rest. SPLIT rest AT ',' INTO token dummy. REPLACE ALL OCCURRENCES OF '"'."""
    return body.partition(":")[2].partition(",")[0].replace('"', "")


def use(base, token):
    return call(f"{base}/api/v1/me/", {"Authorization": f"JWT {token}"})


def client():
    base = base_url()
    user, password = credentials()

    for path in ("/api/v1/token-auth/", "/api/v2/token-auth"):
        status, body = post(base + path, ("password", password), ("username", user))
        expect(f"status of the login at {path}", status, 200)
        token = cut(body)
        expect_that("the cut yields three parts of a JWT and nothing else", is_jws(token), token)
        status, body = use(base, token)
        expect("status of a call with the cut token", status, 200)
        ok(f"token cut out of the answer of {path} opens /api/v1/me/")

    expect_that("/api/v1/me/ has a username", '"username"' in body, body)
    expect("the username, cut out of /api/v1/me/", cut(body[body.index('"username"') :]), user)
    ok("a later field can be cut the same way")

    status, body = post(base + "/api/v2/token-auth/", ("password", password + "x"), ("username", user))
    expect("status of a login with a wrong password", status, 206)
    expect("its message, by the same cut", cut(body), "Unable to login with provided credential}")
    ok("the message of a refused login can be cut too (the brace stays on, as it did)")

    # A success after the failure, so that this run leaves no count in the throttle.
    status, body = post(base + "/api/v1/token-auth", ("password", password), ("username", user))
    expect("status of the login after a refused one", status, 200)
    expect("status of a call with its token", use(base, cut(body))[0], 200)
    ok("the next login is unaffected")


def is_jws(token):
    parts = token.split(".")
    return len(parts) == 3 and all(part and part.replace("-", "").replace("_", "").isalnum() for part in parts)


if __name__ == "__main__":
    run(client)

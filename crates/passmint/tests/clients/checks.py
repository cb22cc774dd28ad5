"""What the Python clients of this folder share: reading their arguments, and saying what went well or wrong.

It holds no test runner and knows nothing of HTTP libraries: each client brings its own, as its original did.
"""

import base64
import json
import os
import sys

# The server under test is named on the command line; no proxy of the environment may come in between.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"

UNDECODABLE = b'{"error":"Error decoding signature.","detail":"Error decoding signature."}'


class Mismatch(Exception):
    """A check that failed; its text names what was expected and what came instead."""


def ok(what):
    print(f"ok: {what}", flush=True)


def expect(what, actual, expected):
    """Compare value and type: 1, 1.0 and True are three different things on the wire."""
    if type(actual) is not type(expected) or actual != expected:
        raise Mismatch(f"{what}\n  expected: {expected!r}\n  came:     {actual!r}")


def expect_that(what, condition, came):
    if not condition:
        raise Mismatch(f"{what}\n  came:     {came!r}")


def base_url(*further):
    """The arguments of the command line: BASE_URL, then whatever `further` names."""
    if len(sys.argv) != 2 + len(further):
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} {' '.join(('BASE_URL', *further))}")
    base = sys.argv[1].rstrip("/")
    return (base, *sys.argv[2:]) if further else base


def credentials():
    try:
        return os.environ["PASSMINT_USER"], os.environ["PASSMINT_PASSWORD"]
    except KeyError as missing:
        sys.exit(f"set the environment variable {missing.args[0]}")


def run(client):
    """Run a client: exit code 1 and one message when a check fails or the server cannot be reached."""
    try:
        client()
    except Mismatch as mismatch:
        sys.exit(f"FAILED: {mismatch}")
    except OSError as trouble:  # refused connections and time-outs of requests and urllib alike
        sys.exit(f"FAILED: an answer was expected\n  came:     {type(trouble).__name__}: {trouble}")


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def header_of(token):
    return json.loads(decoded(token.split(".")[0]))


def claims_of(token):
    """The payload as clients without a JWT library read it; nothing is verified."""
    return json.loads(decoded(token.split(".")[1]))


def tampered(token):
    """The same token for somebody else: one byte of the payload, the first of `sub`, is another one."""
    header, payload, signature = token.split(".")
    text = bytearray(decoded(payload))
    place = text.index(b'"', text.index(b'"sub":') + len(b'"sub":')) + 1
    text[place] = ord("2") if text[place] == ord("1") else ord("1")
    return f"{header}.{unpadded(bytes(text))}.{signature}"

"""The Django services behind the login API: they check its tokens themselves, with simplejwt.

Starts django_service/service.py, whose SIMPLE_JWT differs from a stock one in three settings (JWK_URL, ALGORITHM,
AUTH_HEADER_TYPES), and calls it with Passmint's tokens. Ends the one process it started.
"""

import contextlib
import pathlib
import subprocess
import sys

import requests

from checks import base_url, claims_of, credentials, expect, expect_that, ok, run, tampered

SERVICE = pathlib.Path(__file__).parent / "django_service" / "service.py"

http = requests.Session()
http.trust_env = False


@contextlib.contextmanager
def django_service(base, alg, user_id):
    command = [sys.executable, str(SERVICE), base, alg, str(user_id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            if not port:
                process.wait(timeout=30)
                expect_that("the Django service starts", False, process.stderr.read())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def get(service, path, token=None, scheme="JWT"):
    return http.get(service + path, headers={"Authorization": f"{scheme} {token}"} if token else {}, timeout=30)


def login(base, user, password):
    answer = http.post(f"{base}/api/v1/token-auth/", json={"username": user, "password": password})
    expect(f"status of the login; body {answer.text}", answer.status_code, 200)
    return answer.json()


def client():
    base, alg = base_url("ALG")
    user, password = credentials()
    pair = login(base, user, password)
    token, user_id = pair["token"], claims_of(pair["token"])["user_id"]

    with django_service(base, alg, user_id) as service:
        for path, username in {"/protected/": "as-this-service-knows-them", "/protected-stateless/": user}.items():
            answer = get(service, path, token)
            expect(f"status of {path} with our token; body {answer.text}", answer.status_code, 200)
            expect(f"answer of {path}", answer.json(), {"user_id": user_id, "username": username})
            ok(f"200 from {path}: simplejwt accepts our {alg} token, user_id {user_id}")

            for what, wrong in {"a tampered token": tampered(token), "a refresh token": pair["refresh_token"]}.items():
                answer = get(service, path, wrong)
                expect(f"status of {path} with {what}; body {answer.text}", answer.status_code, 401)
                expect(f"code of {path} with {what}", answer.json().get("code"), "token_not_valid")
                ok(f"401 from {path} with {what}")

            answer = get(service, path)
            expect(f"status of {path} without a token", answer.status_code, 401)
            challenge = answer.headers.get("WWW-Authenticate")
            expect(f"WWW-Authenticate of {path}", challenge, 'JWT realm="api"')
            ok(f"401 from {path} without a token")

        refreshed = http.post(f"{base}/api/v1/token-refresh/", json={"refresh_token": pair["refresh_token"]})
        expect(f"status of the refresh; body {refreshed.text}", refreshed.status_code, 200)
        answer = get(service, "/protected/", refreshed.json()["token"])
        expect(f"status of /protected/ with a refreshed token; body {answer.text}", answer.status_code, 200)
        ok("200 from /protected/ with a refreshed token")


if __name__ == "__main__":
    run(client)

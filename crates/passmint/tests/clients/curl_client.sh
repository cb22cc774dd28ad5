#!/usr/bin/env bash
# The curl recipes: the published one posts a form to the path without its last slash and lets curl follow redirects,
# which would turn the POST into a GET. Others send urlencoded text with a raw @ and an extra grant_type (Business
# Central), JSON over several CRLF lines with the password first, or announce `Expect: 100-continue` (.NET).
#
# Usage: PASSMINT_USER=… PASSMINT_PASSWORD=… curl_client.sh BASE_URL
set -euo pipefail

base=${1:?usage: curl_client.sh BASE_URL}
base=${base%/}
user=${PASSMINT_USER:?set the environment variable PASSMINT_USER}
password=${PASSMINT_PASSWORD:?set the environment variable PASSMINT_PASSWORD}

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

# The recipes put the credentials into forms and JSON as they are, so they must need no quoting in any of them.
plain='^[A-Za-z0-9._~!*-][A-Za-z0-9@._~!*-]*$'
[[ $user =~ $plain && $password =~ $plain ]] ||
    fail "this client needs a user name and a password of letters, digits and @._~!*- only"

# call STATUS CURL_ARGUMENTS… : sets $body; every answer is JSON without a charset, reached without a redirect.
call() {
    local expected=$1 answer facts
    shift
    answer=$(curl -q --noproxy '*' --silent --show-error --max-time 30 --location \
        --write-out '\n%{http_code} redirects=%{num_redirects} %{content_type}' "$@") ||
        fail "curl ended with $? for: ${*//"$password"/…}"
    facts=${answer##*$'\n'}
    body=${answer%$'\n'*}
    [[ $facts == "$expected redirects=0 application/json" ]] ||
        fail "${*//"$password"/…}
  expected: $expected redirects=0 application/json
  came:     $facts
  body:     $body"
}

expect_body() {
    [[ $body == "$2" ]] || fail "$1
  expected: $2
  came:     $body"
}

segment='[A-Za-z0-9_-]+'
pair="^\{\"token\":\"($segment\.$segment\.$segment)\",\"refresh_token\":\"([^\"\\\\ ]+)\",\"token_type\":\"JWT\",\"expires_in\":86400,\"refresh_expires_in\":2592000\}\$"

# expect_pair WHAT : sets $token and $refresh_token, and uses the token.
expect_pair() {
    [[ $body =~ $pair ]] || fail "$1
  expected: $pair
  came:     $body"
    token=${BASH_REMATCH[1]} refresh_token=${BASH_REMATCH[2]}
    call 200 "$base/api/v1/me" --header "Authorization: JWT $token"
    [[ $body == *"\"username\":\"$user\""* ]] || fail "$1: the user of the token
  expected: \"username\":\"$user\"
  came:     $body"
    echo "ok: $1"
}

for path in /api/v1/token-auth /api/v2/token-auth /api/v1/token-auth/; do
    call 200 "$base$path" --form "username=$user" --form "password=$password"
    expect_pair "curl --location …$path --form"
done

call 200 "$base/api/v1/token-auth" -d "grant_type=password&username=$user&password=$password"
expect_pair "urlencoded with grant_type=password, an @ stays raw"

call 200 "$base/api/v2/token-auth" --data-urlencode "username=$user" --data-urlencode "password=$password" \
    --header 'Productid: einvoicing_global' --header 'Service: online_service' --header 'Authorization: JWT stale'
expect_pair "urlencoded with headers that mean nothing here"

json=$(printf '{\r\n    "password": "%s",\r\n    "username": "%s"\r\n}\r\n' "$password" "$user")
call 200 "$base/api/v1/token-auth" --header 'Content-Type: application/json' --data-binary "$json"
expect_pair "JSON over several CRLF lines, password first"

call 200 "$base/api/v1/token-auth" --header 'Content-Type: application/json' --header 'Expect: 100-continue' \
    --data-binary "{\"username\":\"$user\",\"password\":\"$password\"}"
expect_pair "JSON after Expect: 100-continue"

call 200 "$base/api/v1/token-auth" --header 'Content-Type: application/json' --header 'Transfer-Encoding: chunked' \
    --data-binary "{\"username\":\"$user\",\"password\":\"$password\"}"
expect_pair "JSON in chunks, without Content-Length"

call 200 "$base/api/v1/token-refresh" --form "refresh_token=$refresh_token"
expect_pair "refresh by --form refresh_token"

call 200 "$base/api/v2/api-token-refresh" -d "token=$refresh_token"
expect_pair "refresh by -d token"

call 206 "$base/api/v1/token-refresh" -d "token=$token"
expect_body "refresh with an access token" '{"error":"Invalid refresh token"}'
echo "ok: refresh with an access token: 206 $body"

call 206 "$base/api/v1/token-auth" --fail --form "username=$user" --form "password=${password}x"
expect_body "login with a wrong password" '{"error":"Unable to login with provided credential"}'
echo "ok: wrong password: 206 $body, which curl --fail takes for a success"

missing_both='{"username":["missing field"],"password":["missing field"]}'

call 400 "$base/api/v1/token-auth" --form "username=$user"
expect_body "login without a password" '{"password":["missing field"]}'
echo "ok: --form without a password: 400 $body"

call 400 "$base/api/v1/token-auth" --request POST
expect_body "login without a body" "$missing_both"
echo "ok: --request POST without a body: 400 $body"

call 400 "$base/api/v1/token-auth" -d "{\"username\":\"$user\",\"password\":\"$password\"}"
expect_body "JSON sent as a form" "$missing_both"
echo "ok: JSON with -d and no --header, which is a form without fields: 400 $body"

call 415 "$base/api/v1/token-auth" --header 'Content-Type: text/plain' -d "{\"username\":\"$user\"}"
echo "ok: text/plain: 415 $body"

call 405 "$base/api/v1/token-auth"
expect_body "GET of the login" '{"detail":"Method \"GET\" not allowed."}'
echo "ok: GET of the login: 405 $body"

call 401 "$base/api/v1/me" --header "Authorization: JWT ${token%?????}AAAAA"
expect_body "a token with a changed signature" \
    '{"error":"Error decoding signature.","detail":"Error decoding signature."}'
echo "ok: a token with a changed signature: 401 $body"

# A success after the failure, so that this run leaves no count in the throttle.
call 200 "$base/api/v1/token-auth" --form "username=$user" --form "password=$password"
expect_pair "the login after the refused ones"

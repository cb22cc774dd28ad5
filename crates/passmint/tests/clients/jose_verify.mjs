// A Node service that checks Passmint's tokens by itself: npm jose and the published keys, one pinned algorithm.
// The issuer is the token's own, compared with PASSMINT_ISSUER when that is set.
//
// Usage: PASSMINT_USER=… PASSMINT_PASSWORD=… node jose_verify.mjs BASE_URL ALG
import { createHmac } from 'node:crypto';
import {
  calculateJwkThumbprint, createRemoteJWKSet, decodeJwt, decodeProtectedHeader, exportSPKI, importJWK, jwtVerify,
} from 'jose';

const REQUIRED_CLAIMS = [
  'iss', 'sub', 'iat', 'exp', 'jti', 'sid', 'gen', 'uep', 'roles', 'user_id', 'username', 'email', 'orig_iat',
  'token_type',
];
const UNDECODABLE = '{"error":"Error decoding signature.","detail":"Error decoding signature."}';

const ok = (what) => console.log(`ok: ${what}`);

function expect(what, actual, expected) {
  if (actual !== expected) {
    throw new Error(`${what}\n  expected: ${JSON.stringify(expected)}\n  came:     ${JSON.stringify(actual)}`);
  }
}

async function login(base, username, password) {
  const answer = await fetch(`${base}/api/v1/token-auth`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json, text/plain, */*' },
    body: JSON.stringify({ username, password }),
    redirect: 'error',
  });
  const text = await answer.text();
  expect(`status of the login; body ${text}`, answer.status, 200);
  return JSON.parse(text).token;
}

const encode = (value) => Buffer.from(value).toString('base64url');

function tampered(token) {
  const [header, payload, signature] = token.split('.');
  const text = Buffer.from(payload, 'base64url').toString('utf8');
  const changed = text.replace(/("sub":\s*")(.)/, (_, before, first) => before + (first === '1' ? '2' : '1'));
  expect('sub of the token is text, and can be changed', changed !== text, true);
  return `${header}.${encode(changed)}.${signature}`;
}

function withoutSignature(token) {
  const [, payload] = token.split('.');
  return `${encode(JSON.stringify({ ...decodeProtectedHeader(token), alg: 'none' }))}.${payload}.`;
}

function signedWithPublicKey(token, pem) {
  const [, payload] = token.split('.');
  const signed = `${encode(JSON.stringify({ ...decodeProtectedHeader(token), alg: 'HS256' }))}.${payload}`;
  return `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`;
}

async function client(base, alg, username, password) {
  const token = await login(base, username, password);
  const { kid } = decodeProtectedHeader(token);
  const { iss } = decodeJwt(token);
  expect('iss of the token', iss, process.env.PASSMINT_ISSUER || iss);

  const jwks = createRemoteJWKSet(new URL(`${base}/.well-known/jwks.json`));
  const options = { algorithms: [alg], issuer: iss, typ: 'JWT', requiredClaims: REQUIRED_CLAIMS };
  const { payload, protectedHeader } = await jwtVerify(token, jwks, options).catch((refused) => {
    throw new Error(`jose accepts the token\n  came:     ${refused.code ?? refused.name}: ${refused.message}`);
  });
  expect('alg of the token', protectedHeader.alg, alg);
  expect('username', payload.username, username);
  expect('token_type', payload.token_type, 'access');
  expect('exp - iat', payload.exp - payload.iat, 86400);
  ok(`jose accepts the token with algorithms: ['${alg}'], issuer: '${iss}', typ: 'JWT'`);

  const jwk = jwks.jwks().keys.find((key) => key.kid === kid);
  expect('kid of the token is the thumbprint of the key', kid, await calculateJwkThumbprint(jwk));
  ok(`kid is the RFC 7638 thumbprint ${kid}`);

  const pem = await exportSPKI(await importJWK(jwk, alg, { extractable: true }));
  const forgeries = {
    'one changed byte of the payload': [tampered(token), 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'],
    'alg none': [withoutSignature(token), 'ERR_JOSE_ALG_NOT_ALLOWED'],
    'HS256 with the public key as secret': [signedWithPublicKey(token, pem), 'ERR_JOSE_ALG_NOT_ALLOWED'],
  };
  for (const [what, [forged, code]] of Object.entries(forgeries)) {
    const outcome = await jwtVerify(forged, jwks, options).then(() => 'accepted', (refused) => refused.code);
    expect(`jose on a token with ${what}`, outcome, code);
    const answer = await fetch(`${base}/api/v1/me/`, { headers: { Authorization: `JWT ${forged}` } });
    expect(`status of /api/v1/me/ for ${what}`, answer.status, 401);
    expect(`body of /api/v1/me/ for ${what}`, await answer.text(), UNDECODABLE);
    ok(`${what}: refused by jose (${code}) and by the server`);
  }
}

const [base, alg, ...rest] = process.argv.slice(2);
if (!alg || rest.length > 0) {
  console.error('usage: jose_verify.mjs BASE_URL ALG');
  process.exit(1);
}
for (const name of ['PASSMINT_USER', 'PASSMINT_PASSWORD']) {
  if (!process.env[name]) {
    console.error(`set the environment variable ${name}`);
    process.exit(1);
  }
}
try {
  await client(base.replace(/\/$/, ''), alg, process.env.PASSMINT_USER, process.env.PASSMINT_PASSWORD);
} catch (error) {
  console.error(`FAILED: ${error.message}${error.cause ? ` (${error.cause.message})` : ''}`);
  process.exitCode = 1;
}

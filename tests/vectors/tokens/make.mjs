// Writes decide.json: tokens and the one verdict that every verifier of JWTrail's tokens must give them.
// Made with Node's own cryptography and npm's `jose`, so that no verifier is held to its own mistakes. Keys and
// signatures are new each time: node tests/vectors/tokens/make.mjs

import { createHmac, generateKeyPairSync, randomBytes, sign as signWith, constants } from 'node:crypto'
import { createRequire } from 'node:module'
import { writeFileSync } from 'node:fs'

const root = new URL('../../../', import.meta.url)
const { CompactEncrypt, calculateJwkThumbprint } = await import(
  createRequire(new URL('.deps/package.json', root)).resolve('jose'))

const b64 = (bytes) => Buffer.from(bytes).toString('base64url')
const json = (value) => b64(JSON.stringify(value))
const refOf = async (token) => b64(await crypto.subtle.digest('SHA-256', Buffer.from(token.slice(0, token.lastIndexOf('.')))))

const NOW = 1795428000
const ISSUER = 'https://id.example/t/acme'
const API = 'https://api.example'
const VAULT = 'https://vault.example'

// Keys that sign.

const ec = (namedCurve) => generateKeyPairSync('ec', { namedCurve })
const rsa = (modulusLength = 2048) => generateKeyPairSync('rsa', { modulusLength })
const HASH = { 256: 'sha256', 384: 'sha384', 512: 'sha512' }

function sign(alg, key, text) {
  const data = Buffer.from(text)
  const hash = HASH[alg.slice(2)]
  if (alg.startsWith('ES')) return signWith(hash, data, { key, dsaEncoding: 'ieee-p1363' })
  if (alg.startsWith('RS')) return signWith(hash, data, key)
  if (alg.startsWith('PS')) {
    const padding = constants.RSA_PKCS1_PSS_PADDING
    return signWith(hash, data, { key, padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST })
  }
  return signWith(null, data, key)
}

const keys = {}
const published = []
async function signer(name, alg, pair, state = 'active', withAlg = true) {
  const jwk = pair.publicKey.export({ format: 'jwk' })
  const kid = await calculateJwkThumbprint(jwk)
  keys[name] = { alg, kid, ...pair }
  if (state) published.push({ ...jwk, kid, use: 'sig', ...(withAlg ? { alg } : {}), state })
}
await signer('ES256', 'ES256', ec('P-256'))
await signer('ES384', 'ES384', ec('P-384'))
const shared = rsa()
await signer('RSA', 'RS256', shared, 'active', false)
for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']) keys[alg] = { ...keys.RSA, alg }
await signer('RS256 alone', 'RS256', rsa())
await signer('EdDSA', 'EdDSA', generateKeyPairSync('ed25519'))
await signer('Ed25519', 'Ed25519', generateKeyPairSync('ed25519'))
await signer('prepared', 'ES256', ec('P-256'), 'prepared')
await signer('retained', 'ES256', ec('P-256'), 'retained')
await signer('expired', 'ES256', ec('P-256'), 'expired')
await signer('revoked', 'ES256', ec('P-256'), 'revoked')
await signer('stranger', 'ES256', ec('P-256'), null)

// Keys that decrypt.

const audiences = []
const encrypting = {}
async function audience(name, alg, pair, of = VAULT) {
  const jwk = pair.publicKey.export({ format: 'jwk' })
  const kid = await calculateJwkThumbprint(jwk)
  encrypting[name] = { alg, kid, publicKey: pair.publicKey }
  if (of) {
    const pkcs8 = pair.privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64url')
    audiences.push({ audience: of, kid, alg, pkcs8 })
  }
}
await audience('RSA', 'RSA-OAEP-256', rsa())
await audience('P-256', 'ECDH-ES', ec('P-256'))
await audience('P-384', 'ECDH-ES+A256KW', ec('P-384'))
await audience('X25519', 'ECDH-ES', generateKeyPairSync('x25519'))
await audience('api', 'ECDH-ES', ec('P-256'), API)
await audience('stranger', 'ECDH-ES', ec('P-256'), null)

// Tokens.

let jti = 0
const claims = (changes = {}) => {
  const all = {
    iss: ISSUER, sub: 'alice', aud: API, client_id: 'web', iat: NOW - 60, exp: NOW + 540,
    jti: `vector-${++jti}`, scope: 'orders:read orders:write', tenant_id: 'acme', sid: 'session-1', ...changes,
  }
  for (const [name, value] of Object.entries(all)) if (value === undefined) delete all[name]
  return all
}
const parts = (header, payload, signature) => `${header}.${payload}.${b64(signature)}`
function raw(headerText, payloadText, key = keys.ES256) {
  const [header, payload] = [b64(headerText), b64(payloadText)]
  return parts(header, payload, sign(key.alg, key.privateKey, `${header}.${payload}`))
}
function token(changes = {}, header = {}, key = keys.ES256) {
  const all = { alg: key.alg, kid: key.kid, typ: 'at+jwt', ...header }
  for (const [name, value] of Object.entries(all)) if (value === undefined) delete all[name]
  return raw(JSON.stringify(all), JSON.stringify(claims(changes)), key)
}
const good = { alg: 'ES256', kid: keys.ES256.kid, typ: 'at+jwt' }
const withClaims = (text) => raw(JSON.stringify(good), text)
const withHeader = (text) => raw(text, JSON.stringify(claims()))
const swap = (text, at, with_) => { const all = text.split('.'); all[at] = with_(all[at]); return all.join('.') }

async function encrypt(name, inner, header = {}) {
  const { alg, kid, publicKey } = encrypting[name]
  const all = { alg, enc: 'A256GCM', cty: 'JWT', kid, ...header }
  for (const [member, value] of Object.entries(all)) if (value === undefined) delete all[member]
  return new CompactEncrypt(Buffer.from(inner)).setProtectedHeader(all).encrypt(publicKey)
}
const reheader = (text, change) => swap(text, 0, (header) => {
  const all = JSON.parse(Buffer.from(header, 'base64url'))
  return json({ ...all, ...change })
})
const flip = (segment) => (segment[0] === 'A' ? 'B' : 'A') + segment.slice(1)
// The last character but one of its form: the same bytes, with stray bits.
const stray = (segment) => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return segment.slice(0, -1) + alphabet[alphabet.indexOf(segment.at(-1)) + 1]
}

const cases = []
const row = (verdict, name, token, expectation) =>
  cases.push({ name, verdict, ...(expectation ? { expectation } : {}), token })

// valid
for (const alg of ['ES256', 'ES384', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA', 'Ed25519']) {
  row('valid', `signed with ${alg}`, token({}, {}, keys[alg]))
}
row('valid', 'signed with a key that is retained', token({}, {}, keys.retained))
row('valid', 'aud is a list of one', token({ aud: [API] }))
row('valid', 'aud is a list, and one of it is expected', token({ aud: ['https://other.example', API] }))
row('valid', 'no scope is needed and none is there', token({ scope: '' }), { scopes: [] })
row('valid', 'iat is 30 s ahead', token({ iat: NOW + 30 }))
row('valid', 'nbf is 30 s ahead', token({ nbf: NOW + 30 }))
row('valid', 'exp is a second ahead', token({ exp: NOW + 1 }))
row('valid', 'it lives as long as it may', token({ iat: NOW, exp: NOW + 3600 }))
row('valid', 'claims that nobody knows', token({ roles: ['admin'], nested: { a: [1, { b: null }] } }))
row('valid', 'header members that nobody knows', token({}, { foo: 'bar' }))
row('valid', 'a chain of actors', token({ act: { sub: 'billing', act: { sub: 'web' } }, org: b64(Buffer.alloc(32, 1)), txn: 't1' }))
const jkt = b64(Buffer.alloc(32, 2))
row('valid', 'bound to the key that was shown', token({ cnf: { jkt } }), { presented: { jkt } })
row('valid', 'a key shown, and the token is not bound', token(), { presented: { jkt } })
row('valid', 'revoked is another session', token(), { revoked: [{ what: 'sid', value: 'session-2' }] })
row('valid', 'issued after its subject was revoked', token(), { revoked: [{ what: 'sub', value: 'alice', not_before: NOW - 60 }] })
row('valid', 'any audience', token({ aud: 'https://other.example' }), { any_audience: true })
const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
row('valid', 'the other ECDSA signature (r, n - s): the same token, the same ref', swap(token(), 2, (signature) => {
  const bytes = Buffer.from(signature, 'base64url')
  const s = N - BigInt('0x' + bytes.subarray(32).toString('hex'))
  return b64(Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, '0'), 'hex')]))
}))
const vault = { audiences: [{ name: VAULT, encrypted: true }] }
for (const name of ['RSA', 'P-256', 'P-384', 'X25519']) {
  row('valid', `encrypted with ${encrypting[name].alg}, ${name}`, await encrypt(name, token({ aud: VAULT })), vault)
}
row('valid', 'the inner JWS, from the holder of the key', token({ aud: VAULT }), { audiences: [{ name: VAULT, encrypted: false }] })
row('valid', 'encrypted, though it need not be', await encrypt('api', token()))

// missing_token, malformed
row('missing_token', 'nothing', '')
row('malformed', 'one segment', 'token')
row('malformed', 'two segments', token().split('.').slice(0, 2).join('.'))
row('malformed', 'four segments', token() + '.AA')
row('malformed', 'six segments', token() + '.A.A.A')
row('malformed', 'three dots of nothing', '..')
row('malformed', 'a line feed behind it', token() + '\n')
row('malformed', 'a space before it', ' ' + token())
row('malformed', 'the scheme before it', 'Bearer ' + token())
row('malformed', 'a padded header', swap(token(), 0, (header) => header + '='))
row('malformed', 'the other base64 alphabet', swap(token(), 2, (signature) => '+/' + signature.slice(2)))
row('malformed', 'stray bits behind the signature', swap(token(), 2, stray))
row('malformed', 'a header that is no JSON', withHeader('{"alg":"ES256"'))
row('malformed', 'a header that is a list', withHeader('[]'))
row('malformed', 'a header with alg twice', withHeader(`{"alg":"none",${JSON.stringify(good).slice(1)}`))
row('malformed', 'a header without alg', withHeader(JSON.stringify({ ...good, alg: undefined })))
row('malformed', 'a header whose alg is a number', withHeader(JSON.stringify({ ...good, alg: 256 })))
row('malformed', 'a header whose kid is a number', withHeader(JSON.stringify({ ...good, kid: 1 })))
row('malformed', 'claims that are no JSON', withClaims('sub=alice'))
row('malformed', 'claims that are a list', withClaims('[]'))
row('malformed', 'claims in Latin-1', raw(JSON.stringify(good), Buffer.from(JSON.stringify(claims({ sub: 'renée' })), 'latin1')))
row('malformed', 'claims with sub twice', withClaims(`{"sub":"mallory",${JSON.stringify(claims()).slice(1)}`))
row('malformed', 'claims with a member twice, escaped', withClaims(`{"s\\u0075b":"mallory",${JSON.stringify(claims()).slice(1)}`))
row('malformed', 'claims with a member twice, deep inside', withClaims(JSON.stringify(claims({ x: 1 })).replace('"x":1', '"x":[{"y":1,"y":2}]')))
for (const name of ['iss', 'sub', 'aud', 'client_id', 'iat', 'exp', 'jti', 'scope', 'tenant_id']) {
  row('malformed', `${name} is missing`, token({ [name]: undefined }))
}
row('malformed', 'iss is a list', token({ iss: [ISSUER] }))
row('malformed', 'sub is empty', token({ sub: '' }))
row('malformed', 'aud is an empty list', token({ aud: [] }))
row('malformed', 'exp is a text', token({ exp: String(NOW + 60) }))
row('malformed', 'exp is a fraction', token({ exp: NOW + 60.5 }))
row('malformed', 'exp is beyond all time', withClaims(JSON.stringify(claims({ exp: 1 })).replace('"exp":1', '"exp":9223372036854775807')))
row('malformed', 'nbf is null', token({ nbf: null }))
row('malformed', 'scope is a list', token({ scope: ['orders:read'] }))
row('malformed', 'act says more than who', token({ act: { sub: 'billing', role: 'admin' } }))
row('malformed', 'act is nine deep', token({ act: [...Array(8)].reduce((act) => ({ sub: 'a', act }), { sub: 'a' }) }))
row('malformed', 'cnf binds to what is not checked', token({ cnf: { jwk: {} } }))
row('malformed', 'longer than 8 KiB', token({ filler: 'x'.repeat(8192) }))
row('malformed', 'encrypted, and its content is not signed', await encrypt('P-256', JSON.stringify(claims({ aud: VAULT }))), vault)
row('malformed', 'encrypted twice', await encrypt('P-256', await encrypt('P-256', token({ aud: VAULT }))), vault)

// crit_not_understood, wrong_type
row('crit_not_understood', 'crit', token({}, { crit: ['exp'], exp: NOW }))
row('crit_not_understood', 'an empty crit', token({}, { crit: [] }))
row('crit_not_understood', 'b64', token({}, { b64: true }))
row('crit_not_understood', 'crit of a JWE', reheader(await encrypt('P-256', token({ aud: VAULT })), { crit: ['cty'] }), vault)
row('wrong_type', 'typ is missing', token({}, { typ: undefined }))
row('wrong_type', 'typ is JWT', token({}, { typ: 'JWT' }))
row('wrong_type', 'typ is a logout token', token({}, { typ: 'logout+jwt' }))
row('wrong_type', 'a JWE without cty', await encrypt('P-256', token({ aud: VAULT }), { cty: undefined }), vault)

// not_encrypted, undecryptable
row('not_encrypted', 'a bare JWS for an audience that takes encrypted ones', token({ aud: VAULT }), vault)
row('not_encrypted', 'a bare JWS, one of its audiences takes encrypted ones', token({ aud: [API, VAULT] }), { audiences: [{ name: API, encrypted: false }, { name: VAULT, encrypted: true }] })
row('not_encrypted', 'a bare JWS, any audience', token({ aud: VAULT }), { ...vault, any_audience: true })
const sealed = await encrypt('P-256', token({ aud: VAULT }))
const wrapped = await encrypt('P-384', token({ aud: VAULT }))
const oaep = await encrypt('RSA', token({ aud: VAULT }))
row('undecryptable', 'encrypted to a key that nobody has', await encrypt('stranger', token({ aud: VAULT })), vault)
row('undecryptable', 'encrypted, and no kid', await encrypt('P-256', token({ aud: VAULT }), { kid: undefined }), vault)
row('undecryptable', 'encrypted for an audience that is not expected', sealed)
row('undecryptable', 'a changed ciphertext', swap(sealed, 3, flip), vault)
row('undecryptable', 'a changed tag', swap(sealed, 4, flip), vault)
row('undecryptable', 'a short tag', swap(sealed, 4, (tag) => tag.slice(0, 16)), vault)
row('undecryptable', 'another initialization vector', swap(sealed, 2, () => b64(randomBytes(12))), vault)
row('undecryptable', 'a changed header', reheader(sealed, { foo: 'bar' }), vault)
row('undecryptable', 'an encrypted key that does not unwrap', swap(wrapped, 1, flip), vault)
row('undecryptable', 'an encrypted key that is no OAEP', swap(oaep, 1, flip), vault)
row('undecryptable', 'an encrypted key where the agreement is the key', swap(sealed, 1, () => b64(randomBytes(40))), vault)
row('undecryptable', 'epk off the curve', reheader(sealed, { epk: { kty: 'EC', crv: 'P-256', x: b64(Buffer.alloc(32, 1)), y: b64(Buffer.alloc(32, 1)) } }), vault)
row('undecryptable', 'epk on another curve', reheader(sealed, { epk: ec('P-384').publicKey.export({ format: 'jwk' }) }), vault)

// unknown_issuer, issuer_tenant_mismatch
row('unknown_issuer', 'another issuer', token({ iss: 'https://evil.example' }))
row('unknown_issuer', 'iss with a slash behind it', token({ iss: ISSUER + '/' }))
row('unknown_issuer', 'iss in other letters', token({ iss: 'https://ID.example/t/acme' }))
row('unknown_issuer', 'iss with the default port', token({ iss: 'https://id.example:443/t/acme' }))
row('unknown_issuer', 'iss over http', token({ iss: 'http://id.example/t/acme' }))
row('issuer_tenant_mismatch', "another tenant's issuer", token({ iss: 'https://id.example/t/other', tenant_id: 'other' }))
row('issuer_tenant_mismatch', 'tenant_id disagrees with iss', token({ tenant_id: 'other' }))

// alg_not_allowed
const unsigned = (alg) => `${json({ ...good, alg })}.${json(claims())}.`
row('alg_not_allowed', 'none', unsigned('none'))
row('alg_not_allowed', 'None', unsigned('None'))
row('alg_not_allowed', 'es256', token({}, { alg: 'es256' }))
const hs = `${json({ alg: 'HS256', kid: keys.RSA.kid, typ: 'at+jwt' })}.${json(claims())}`
const pem = shared.publicKey.export({ format: 'pem', type: 'spki' })
row('alg_not_allowed', 'HS256, with the public key as its secret', `${hs}.${b64(createHmac('sha256', pem).update(hs).digest())}`)
row('alg_not_allowed', 'ES512', token({}, { alg: 'ES512' }))
row('alg_not_allowed', "RS256, and the kid is an EC key's", token({}, { kid: keys.ES256.kid }, keys.RS256))
row('alg_not_allowed', 'PS256, and the key is for RS256 alone', token({}, {}, { ...keys['RS256 alone'], alg: 'PS256' }))
row('alg_not_allowed', 'EdDSA, and the key is for ES256', token({}, { kid: keys.ES256.kid }, keys.EdDSA))
row('alg_not_allowed', 'a JWE with RSA1_5', reheader(oaep, { alg: 'RSA1_5' }), vault)
row('alg_not_allowed', 'a JWE with a password', reheader(oaep, { alg: 'PBES2-HS512+A256KW', p2s: 'AAAAAAAAAAA', p2c: 2147483647 }), vault)
row('alg_not_allowed', 'a JWE with A128CBC-HS256', reheader(oaep, { enc: 'A128CBC-HS256' }), vault)
row('alg_not_allowed', 'a JWE that is compressed', reheader(oaep, { zip: 'DEF' }), vault)

// unknown_key, key_retired, key_revoked
row('unknown_key', 'no kid', token({}, { kid: undefined }))
row('unknown_key', 'a kid that nobody has', token({}, {}, keys.stranger))
row('key_retired', 'signed before its key is in use', token({}, {}, keys.prepared))
row('key_retired', 'signed with a key that is no more', token({}, {}, keys.expired))
row('key_revoked', 'signed with a key that was revoked', token({}, {}, keys.revoked))
row('key_revoked', 'signed with a revoked key, and the signature is bad', swap(token({}, {}, keys.revoked), 2, flip))

// bad_signature
row('bad_signature', 'a changed signature', swap(token(), 2, flip))
row('bad_signature', 'changed claims', swap(token(), 1, () => json(claims({ sub: 'mallory' }))))
row('bad_signature', 'a changed header', reheader(token(), { foo: 'bar' }))
row('bad_signature', "a stranger's signature under our kid", token({}, { kid: keys.ES256.kid }, keys.stranger))
row('bad_signature', 'no signature', swap(token(), 2, () => ''))
row('bad_signature', 'half a signature', swap(token(), 2, (signature) => signature.slice(0, 43).slice(0, 40)))
row('bad_signature', 'a signature of zeros', swap(token(), 2, () => b64(Buffer.alloc(64))))
{
  const input = `${json(good)}.${json(claims())}`
  row('bad_signature', 'a signature in DER', parts(...input.split('.'), signWith('sha256', Buffer.from(input), keys.ES256.privateKey)))
}
const strangers = keys.stranger.publicKey.export({ format: 'jwk' })
row('bad_signature', 'the header brings its own key (jwk)', token({}, { kid: keys.ES256.kid, jwk: strangers }, keys.stranger))
row('bad_signature', 'the header says where its key lies (jku, x5u)', token({}, { kid: keys.ES256.kid, jku: 'https://evil.example/jwks.json', x5u: 'https://evil.example/cert.pem' }, keys.stranger))
row('bad_signature', 'the header brings a certificate (x5c)', token({}, { kid: keys.ES256.kid, x5c: ['MIIB'] }, keys.stranger))
row('bad_signature', 'a bad signature, long expired', swap(token({ iat: NOW - 9000, exp: NOW - 8400 }), 2, flip))
row('bad_signature', 'encrypted, and the signature inside is bad', await encrypt('P-256', swap(token({ aud: VAULT }), 2, flip)), vault)

// What the claims are worth.
row('not_yet_valid', 'iat is 31 s ahead', token({ iat: NOW + 31, exp: NOW + 600 }))
row('not_yet_valid', 'nbf is 31 s ahead', token({ nbf: NOW + 31 }))
row('expired', 'exp is now', token({ exp: NOW }))
row('expired', 'exp is long past', token({ iat: NOW - 9000, exp: NOW - 8400 }))
row('expired', 'expired and revoked', token({ exp: NOW }), { revoked: [{ what: 'sub', value: 'alice' }] })
row('lifetime_too_long', 'a second longer than it may live', token({ iat: NOW, exp: NOW + 3601 }))
row('wrong_audience', 'another audience', token({ aud: 'https://other.example' }))
row('wrong_audience', 'an audience with a slash behind it', token({ aud: API + '/' }))
row('wrong_audience', 'passed on: encrypted to another audience than its own', await encrypt('P-256', token({ aud: API })), { audiences: [{ name: API, encrypted: false }, { name: VAULT, encrypted: true }] })
row('wrong_audience', 'encrypted to one of its audiences', await encrypt('P-256', token({ aud: [VAULT, API] })), vault)
row('insufficient_scope', 'a scope that it lacks', token({ scope: 'orders:write' }))
row('insufficient_scope', 'a scope that only begins alike', token({ scope: 'orders:readonly' }))
row('insufficient_scope', 'one scope of two', token({ scope: 'orders:read' }), { scopes: ['orders:read', 'orders:delete'] })
row('insufficient_scope', 'no scope', token({ scope: '' }))
row('sender_constraint', 'bound, and no key was shown', token({ cnf: { jkt } }))
row('sender_constraint', 'bound, and another key was shown', token({ cnf: { jkt } }), { presented: { jkt: b64(Buffer.alloc(32, 3)) } })
row('sender_constraint', 'bound to a certificate, and a key was shown', token({ cnf: { 'x5t#S256': jkt } }), { presented: { jkt } })
const delegated = token({ act: { sub: 'billing', act: { sub: 'orders' } }, org: b64(Buffer.alloc(32, 1)) })
for (const [what, value] of [
  ['ref', await refOf(delegated)], ['ref', b64(Buffer.alloc(32, 1))], ['sid', 'session-1'], ['sub', 'alice'],
  ['sub', 'billing'], ['sub', 'orders'], ['client', 'web'], ['kid', keys.ES256.kid], ['tenant', ''],
]) row('revoked', `by ${what} ${value}`.trim(), delegated, { revoked: [{ what, value }] })
row('revoked', 'issued in the second of the revocation', token(), { revoked: [{ what: 'sub', value: 'alice', not_before: NOW - 59 }] })
row('tenant_suspended', 'a good token of a suspended tenant', token(), { suspended: true })
row('revoked', 'a revoked token of a suspended tenant', token(), { suspended: true, revoked: [{ what: 'client', value: 'web' }] })

const file = {
  about: 'Written by make.mjs. `expectation` of a case replaces members of the common one; `revoked` without `not_before` is for good; times in seconds.',
  expectation: {
    issuer: ISSUER, our_issuers: [ISSUER, 'https://id.example/t/other'], tenant: 'acme', now: NOW, max_lifetime_s: 3600,
    audiences: [{ name: API, encrypted: false }], any_audience: false, scopes: ['orders:read'], presented: null,
    revoked: [], suspended: false,
  },
  keys: published,
  decryption_keys: audiences,
  cases,
}
const lines = (list) => list.map((entry) => `    ${JSON.stringify(entry)}`).join(',\n')
const members = Object.entries(file).map(([name, value]) =>
  Array.isArray(value) ? `  ${JSON.stringify(name)}: [\n${lines(value)}\n  ]` : `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
writeFileSync(new URL('decide.json', import.meta.url), `{\n${members.join(',\n')}\n}\n`)
console.log(`${cases.length} cases`)

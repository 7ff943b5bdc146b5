// A resource server with npm's `jose`: fetches the issuer's keys as its metadata says, and judges a token by them.
// Usage: node issuing.mjs PATH-OF-JOSE ISSUER AUDIENCE < TOKEN

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [root, issuer, audience] = process.argv.slice(2)
const jose = await import(pathToFileURL(createRequire(pathToFileURL(root)).resolve('jose')))
const { origin, pathname } = new URL(issuer)
const metadata = await (await fetch(`${origin}/.well-known/oauth-authorization-server${pathname}`)).json()
const keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri))
const options = { issuer: metadata.issuer, audience, typ: 'at+jwt', algorithms: ['ES256'], requiredClaims: ['exp', 'jti'] }
const { payload } = await jose.jwtVerify(readFileSync(0, 'utf8').trim(), keys, options)
process.stdout.write(JSON.stringify(payload))

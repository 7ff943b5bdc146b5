// npm's `jose` on the other side: reads a JSON list of requests, writes a JSON list of answers.
// Usage: node jose.mjs PATH-OF-JOSE < REQUESTS

import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(pathToFileURL(process.argv[2]))
const jose = await import(pathToFileURL(require.resolve('jose')))

const privateKey = (pkcs8) => createPrivateKey({ key: Buffer.from(pkcs8, 'base64url'), format: 'der', type: 'pkcs8' })
const acts = {
  async verify({ keys, token, issuer, audience, now, algorithms }) {
    const options = { issuer, audience, algorithms, typ: 'at+jwt', currentDate: new Date(now * 1000) }
    return (await jose.jwtVerify(token, jose.createLocalJWKSet({ keys }), options)).payload
  },
  async sign({ pkcs8, header, payload }) {
    return new jose.CompactSign(Buffer.from(payload)).setProtectedHeader(header).sign(privateKey(pkcs8))
  },
  async decrypt({ pkcs8, token }) {
    const { plaintext, protectedHeader } = await jose.compactDecrypt(token, privateKey(pkcs8))
    return { plaintext: Buffer.from(plaintext).toString(), cty: protectedHeader.cty, kid: protectedHeader.kid }
  },
  async encrypt({ jwk, header, plaintext }) {
    const key = await jose.importJWK(jwk, header.alg)
    return new jose.CompactEncrypt(Buffer.from(plaintext)).setProtectedHeader(header).encrypt(key)
  },
  thumbprint: ({ jwk }) => jose.calculateJwkThumbprint(jwk),
}
const answers = []
for (const { act, ...request } of JSON.parse(readFileSync(0, 'utf8'))) answers.push(await acts[act](request))
console.log(JSON.stringify(answers))

// Refs of tokens in JavaScript (Node.js), held to vectors.json by a test.
const { createHash } = require("node:crypto");

const sha256 = (text) => createHash("sha256").update(text, "utf8").digest("base64url");

// token.ref of a compact JWS, and token.outer_ref of a compact JWE: the text up to the last dot.
const tokenRef = (token) => sha256(token.slice(0, token.lastIndexOf(".")));

// token.jti_ref, where the token's text is out of reach.
const jtiRef = (iss, jti) => sha256(`${iss}\u001f${jti}`);

module.exports = { tokenRef, jtiRef };

// As a program: one token, or ISS<tab>JTI, a line.
if (require.main === module) {
  const lines = require("node:fs").readFileSync(0, "utf8").split("\n").slice(0, -1);
  for (const line of lines) console.log(line.includes("\t") ? jtiRef(...line.split("\t")) : tokenRef(line));
}

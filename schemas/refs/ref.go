// Refs of tokens in Go, held to vectors.json by a test.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// TokenRef is token.ref of a compact JWS, and token.outer_ref of a compact JWE: the text up to the last dot.
func TokenRef(token string) string { return hash(token[:strings.LastIndexByte(token, '.')]) }

// JtiRef is token.jti_ref, where the token's text is out of reach.
func JtiRef(iss, jti string) string { return hash(iss + "\x1f" + jti) }

// One token, or ISS<tab>JTI, a line.
func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if iss, jti, found := strings.Cut(lines.Text(), "\t"); found {
			fmt.Println(JtiRef(iss, jti))
		} else {
			fmt.Println(TokenRef(lines.Text()))
		}
	}
}

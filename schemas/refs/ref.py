"""Refs of tokens in Python, held to vectors.json by a test."""
import base64
import hashlib
import sys


def sha256(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def token_ref(token):
    """token.ref of a compact JWS, and token.outer_ref of a compact JWE: the text up to the last dot."""
    return sha256(token.rpartition(".")[0])


def jti_ref(iss, jti):
    """token.jti_ref, where the token's text is out of reach."""
    return sha256(f"{iss}\x1f{jti}")


if __name__ == "__main__":  # One token, or ISS<tab>JTI, a line.
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    for line in sys.stdin:
        line = line.removesuffix("\n")
        print(jti_ref(*line.split("\t")) if "\t" in line else token_ref(line))

"""Proof keys for code exchange (RFC 7636)."""

import base64
import hashlib
import hmac

from refresher.sandbox.answers import Refused


def verify_challenge(challenge: str | None, verifier: str | None) -> None:
    """PKCE with S256 (RFC 7636 section 4.6); a verifier without a challenge is refused too."""
    if challenge is None and verifier is None:
        return
    digest = hashlib.sha256((verifier or "").encode()).digest()
    computed = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if verifier is None or not hmac.compare_digest(computed, (challenge or "").encode()):
        raise Refused("invalid_grant", "the code verifier does not match")

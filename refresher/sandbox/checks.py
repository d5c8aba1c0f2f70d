"""Checks of what a request carries; each refuses it with an error of RFC 6749."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from refresher.sandbox.answers import Refused


def verify_challenge(challenge: str | None, verifier: str | None) -> None:
    """PKCE with S256 (RFC 7636 section 4.6); a verifier without a challenge is refused too.

    Raises:
        Refused: they do not belong together.
    """
    if challenge is None and verifier is None:
        return
    digest = hashlib.sha256((verifier or "").encode()).digest()
    computed = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if verifier is None or not hmac.compare_digest(computed, (challenge or "").encode()):
        raise Refused("invalid_grant", "the code verifier does not match")


def check_resource(expected: str | None, parameters: Mapping[str, str]) -> None:
    """Refuse tokens for another resource than EXPECTED (RFC 8707 section 2); None: any.

    Raises:
        Refused: it is another one, or missing.
    """
    if expected is not None and parameters.get("resource") != expected:
        raise Refused("invalid_target", "tokens are for the resource alone")

"""The authorization_code grant: what redeems a code (RFC 6749 4.1.3, RFC 7636 4.5).

The browser's part of the same flow is in ``authorization``.
"""

from collections.abc import Mapping

from refresher.domain.clients import Client
from refresher.domain.secret import Secret


def parameters(
    client: Client, code: Secret, *, redirect_uri: str, code_verifier: Secret | None
) -> Mapping[str, str]:
    """The parameters of a request of CLIENT that redeems CODE."""
    sent = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        client.quirks.redirect_uri_parameter: redirect_uri,
    }
    return sent if code_verifier is None else {**sent, "code_verifier": code_verifier.reveal()}

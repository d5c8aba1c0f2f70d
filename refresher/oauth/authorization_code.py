"""The authorization_code grant: what redeems a code (RFC 6749 4.1.3, RFC 7636 4.5).

The browser's part of the same flow is in ``authorization``.
"""

from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.oauth.requests import TokenRequest


def request(
    client: Client, code: Secret, *, redirect_uri: str, code_verifier: Secret | None
) -> TokenRequest:
    """The request of CLIENT that redeems CODE."""
    quirks = client.quirks
    sent = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        quirks.redirect_uri_parameter: redirect_uri,
    }
    if client.resource is not None:
        sent["resource"] = client.resource
    if code_verifier is not None:
        sent["code_verifier"] = code_verifier.reveal()
    return TokenRequest(
        endpoint=client.endpoints.token,
        placement=quirks.placement,
        parameters={**quirks.token_parameters, **quirks.code_parameters, **sent},
        headers={**quirks.token_headers, **quirks.code_headers},
    )

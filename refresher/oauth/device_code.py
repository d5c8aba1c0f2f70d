"""The device_code grant: what asks for the tokens of a device code (RFC 8628 3.4).

How the code comes to be, and what a poll means, is in ``device_authorization``.
"""

from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.oauth.requests import TokenRequest

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"


def request(client: Client, code: Secret) -> TokenRequest:
    """The request of CLIENT that asks whether the device CODE brings tokens by now."""
    quirks = client.quirks
    return TokenRequest(
        endpoint=client.endpoints.token,
        placement=quirks.placement,
        parameters={
            **quirks.token_parameters,
            **quirks.code_parameters,
            "grant_type": GRANT_TYPE,
            "device_code": code.reveal(),
        },
        headers={**quirks.token_headers, **quirks.code_headers},
    )

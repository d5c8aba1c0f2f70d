"""The token exchange grant: a token for another grant's (RFC 8693 2.1)."""

from refresher.domain.clients import Client
from refresher.domain.renewal import Terms
from refresher.domain.secret import Secret
from refresher.oauth.client_credentials import of_client, wanted
from refresher.oauth.requests import Parameters, TokenRequest

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"

TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
"""What the types of tokens begin with (RFC 8693 3)."""


def request(
    client: Client, subject_token: Secret, terms: Terms, *, scope: tuple[str, ...]
) -> TokenRequest:
    """The request of CLIENT that exchanges SUBJECT_TOKEN."""
    sent: Parameters = {
        "grant_type": GRANT_TYPE,
        "subject_token": subject_token.reveal(),
        "subject_token_type": TOKEN_TYPE + terms.subject_token.value,
        **wanted(client, terms, scope),
    }
    return of_client(client, sent)

"""The client_credentials grant: the client's own access token (RFC 6749 4.4.2)."""

from refresher.domain.clients import Client
from refresher.domain.renewal import Terms
from refresher.oauth.requests import Parameters, TokenRequest


def request(client: Client, terms: Terms, *, scope: tuple[str, ...]) -> TokenRequest:
    """The request of CLIENT for a token of its own."""
    sent: Parameters = {"grant_type": "client_credentials", **wanted(client, terms, scope)}
    return of_client(client, sent)


def wanted(client: Client, terms: Terms, scope: tuple[str, ...]) -> Parameters:
    """What every grant that renews itself may ask for: scope, audience and resource."""
    joined = client.quirks.scope_separator.join(scope)
    asked: Parameters = {"scope": joined, "audience": terms.audience, "resource": terms.resource}
    return {name: value for name, value in asked.items() if value}


def of_client(client: Client, sent: Parameters, *, authenticated: bool = True) -> TokenRequest:
    """What is SENT to the token endpoint of CLIENT, with what its server wants beside it."""
    quirks = client.quirks
    return TokenRequest(
        endpoint=client.endpoints.token,
        placement=quirks.placement,
        parameters={**quirks.token_parameters, **quirks.refresh_parameters, **sent},
        headers={**quirks.token_headers, **quirks.refresh_headers},
        authenticated=authenticated,
    )

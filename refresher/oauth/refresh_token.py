"""The refresh_token grant: what a refresh sends (RFC 6749 6)."""

from refresher.domain.clients import Client
from refresher.domain.renewal import RefreshToken
from refresher.oauth.requests import TokenRequest


def request(
    client: Client, renewal: RefreshToken, *, scope: tuple[str, ...], redirect_uri: str | None
) -> TokenRequest:
    """The request of CLIENT that presents RENEWAL.

    Args:
        scope: sent only for a client that asks for it.
        redirect_uri: the one of the login, sent only for a client that asks for it; None takes
            the client's first.
    """
    quirks, endpoints = client.quirks, client.endpoints
    exchanges = renewal.is_first and bool(quirks.exchange_grant_type)
    sent = {
        "grant_type": quirks.exchange_grant_type if exchanges else quirks.refresh_grant_type,
        "refresh_token": renewal.presents.reveal(),
    }
    if quirks.send_scope_on_refresh and scope:
        sent["scope"] = quirks.scope_separator.join(scope)
    if quirks.send_resource_on_refresh and client.resource is not None:
        sent["resource"] = client.resource
    sent_uri = redirect_uri or next(iter(client.redirect_uris), None)
    if quirks.send_redirect_uri_on_refresh and sent_uri is not None:
        sent[quirks.redirect_uri_parameter] = sent_uri
    endpoint = endpoints.refresh or endpoints.token
    return TokenRequest(
        endpoint=(endpoints.exchange or endpoint) if exchanges else endpoint,
        placement=quirks.refresh_placement or quirks.placement,
        parameters={**quirks.token_parameters, **quirks.refresh_parameters, **sent},
        headers={**quirks.token_headers, **quirks.refresh_headers},
        authenticated=exchanges or quirks.authenticate_refresh,
    )

"""Revoking tokens: RFC 7009, and what providers made of it, as data."""

from dataclasses import replace
from enum import StrEnum
from urllib.parse import quote

from refresher.domain.clients import Client, Revocation, TokenCarrier
from refresher.domain.outcomes import NotSent
from refresher.domain.secret import Secret
from refresher.oauth.documents import read_fields
from refresher.oauth.patience import Patience
from refresher.oauth.requests import TokenRequest
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

ACCESS_TOKEN = "access_token"
STANDARD_PARAMETER = "token"


class RevocationResult(StrEnum):
    """What became of a request to revoke."""

    REVOKED = "revoked"
    """The server says the token is no longer valid."""
    REFUSED = "refused"
    """The server answered that it did not."""
    UNKNOWN = "unknown"
    """The request left and no usable answer came; asking again is harmless."""
    NOT_SENT = "not_sent"
    """The server could not be reached; asking again is harmless."""
    UNSUPPORTED = "unsupported"
    """The client names no revocation endpoint."""
    NO_TOKEN = "no_token"
    """There is no token of the kind that the provider revokes."""


async def revoke(
    endpoint: TokenEndpoint,
    client: Client,
    *,
    refresh_token: Secret | None,
    access_token: Secret | None,
    deadline: float,
) -> RevocationResult:
    """Revoke the one of both tokens that CLIENT's provider wants.

    Args:
        deadline: seconds its request may take once it has left.

    At most providers the other one dies with it. Never raises for network or server.
    """
    revocation = client.endpoints.revocation
    if revocation is None:
        return RevocationResult.UNSUPPORTED
    token = _chosen(revocation, refresh_token, access_token)
    if token is None:
        return RevocationResult.NO_TOKEN
    if revocation.client_authentication is not None:
        quirks = replace(client.quirks, client_authentication=revocation.client_authentication)
        client = replace(client, quirks=quirks)
    asked = _request(client, revocation, token)
    reply = await endpoint.send(client, asked, patience=Patience(deadline))
    if isinstance(reply, Reply):
        return _judged(reply, revocation)
    return RevocationResult.NOT_SENT if isinstance(reply, NotSent) else RevocationResult.UNKNOWN


def _request(client: Client, revocation: Revocation, token: Secret) -> TokenRequest:
    url = revocation.endpoint.replace("CLIENT_ID", quote(client.client_id, safe=""))
    parameters: dict[str, str] = {}
    headers: dict[str, str] = {}
    match revocation.carrier:
        case TokenCarrier.PARAMETER:
            parameters[revocation.parameter] = token.reveal()
            if revocation.parameter == STANDARD_PARAMETER:
                parameters["token_type_hint"] = revocation.token  # RFC 7009 2.1
        case TokenCarrier.PATH:
            url = f"{url}/{quote(token.reveal(), safe='')}"
        case TokenCarrier.BEARER:
            headers["Authorization"] = f"Bearer {token.reveal()}"
    return TokenRequest(
        endpoint=url,
        placement=revocation.placement,
        parameters=parameters,
        headers=headers,
        method=revocation.method,
        authenticated=revocation.authenticated,
        is_mute=revocation.carrier is TokenCarrier.BEARER,
    )


def is_revocable(client: Client, refresh_token: Secret | None, access_token: Secret | None) -> bool:
    """Whether CLIENT's provider revokes one of both tokens."""
    revocation = client.endpoints.revocation
    return revocation is not None and _chosen(revocation, refresh_token, access_token) is not None


def by_access_token(client: Client) -> Client:
    """CLIENT for a grant without a refresh token: its access token is all there is to revoke.

    RFC 7009 2.1 has one parameter for either kind; a provider with a way of its own takes what
    its documentation says, and nothing else.
    """
    revocation = client.endpoints.revocation
    if revocation is None or revocation.parameter != STANDARD_PARAMETER:
        return client
    if revocation.carrier is not TokenCarrier.PARAMETER:
        return client
    revocation = replace(revocation, token=ACCESS_TOKEN)
    return replace(client, endpoints=replace(client.endpoints, revocation=revocation))


def _chosen(
    revocation: Revocation, refresh_token: Secret | None, access_token: Secret | None
) -> Secret | None:
    return access_token if revocation.token == ACCESS_TOKEN else refresh_token


def _judged(reply: Reply, revocation: Revocation) -> RevocationResult:
    """RFC 7009 2.2: 200 also for a token that was dead already; a field decides at some."""
    if reply.status >= 500:  # noqa: PLR2004  the class of status codes
        return RevocationResult.UNKNOWN
    if not 200 <= reply.status < 300:  # noqa: PLR2004  the class of status codes
        return RevocationResult.REFUSED
    if revocation.success_field is None:
        return RevocationResult.REVOKED
    fields = read_fields(reply.body, is_whole=reply.broken is None)
    if fields is None or not isinstance(fields.get(revocation.success_field), bool):
        return RevocationResult.UNKNOWN
    is_revoked = fields[revocation.success_field]
    return RevocationResult.REVOKED if is_revoked else RevocationResult.REFUSED

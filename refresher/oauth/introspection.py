"""Asking a server when an access token ends, where its answers do not tell (RFC 7662)."""

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.quirks import Placement
from refresher.domain.secret import Secret
from refresher.oauth.documents import read_fields
from refresher.oauth.ends import read_instant
from refresher.oauth.patience import Patience
from refresher.oauth.requests import TokenRequest
from refresher.oauth.responses import server_time
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply


async def introspect(
    endpoint: TokenEndpoint, client: Client, access_token: Secret, *, now: float, deadline: float
) -> float | str:
    """When ACCESS_TOKEN ends, in unix seconds of our clock; or why nobody knows, in a word.

    Never raises for network or server.

    Args:
        deadline: seconds its request may take once it has left.
    """
    assert client.endpoints.introspection is not None
    asked = TokenRequest(
        endpoint=client.endpoints.introspection,
        placement=Placement.FORM,
        parameters={"token": access_token.reveal(), "token_type_hint": "access_token"},
    )
    reply = await endpoint.send(client, asked, patience=Patience(deadline))
    if not isinstance(reply, Reply):
        return reply.reason
    if reply.status != 200:  # noqa: PLR2004  RFC 7662 2.2
        return f"http_{reply.status}"
    fields = read_fields(reply.body, is_whole=reply.broken is None)
    if fields is None:
        return "unreadable"
    if fields.get("active") is not True:
        return "inactive"
    ends_at = read_instant(fields.get("exp"))
    if ends_at is None:
        return "no_end"
    left = ends_at - server_time(reply.headers, now)
    return now + left if 0 < left <= schedule.LONGEST_EXPIRES_IN else "no_end"

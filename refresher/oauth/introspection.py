"""Asking a server about an access token: whether it lives, and when it ends (RFC 7662)."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Introspected:
    """What a server told of one access token."""

    is_active: bool
    left: float | None
    """Seconds to its end; None where that is not told, or cannot be believed."""


def asked_about(url: str, access_token: Secret) -> TokenRequest:
    """The question about ACCESS_TOKEN to the introspection endpoint URL (RFC 7662 2.1)."""
    return TokenRequest(
        endpoint=url,
        placement=Placement.FORM,
        parameters={"token": access_token.reveal(), "token_type_hint": "access_token"},
    )


def read_introspection(reply: Reply, now: float) -> Introspected | str:
    """What REPLY tells (RFC 7662 2.2), which came NOW; or why nobody knows, in a word."""
    if reply.status != 200:  # noqa: PLR2004  RFC 7662 2.2
        return f"http_{reply.status}"
    fields = read_fields(reply.body, is_whole=reply.broken is None)
    if fields is None or not isinstance(fields.get("active"), bool):
        return "unreadable"
    ends_at = read_instant(fields.get("exp"))
    left = None if ends_at is None else ends_at - server_time(reply.headers, now)
    is_believed = left is not None and 0 < left <= schedule.LONGEST_EXPIRES_IN
    return Introspected(fields["active"] is True, left if is_believed else None)


async def introspect(
    endpoint: TokenEndpoint, client: Client, access_token: Secret, *, now: float, deadline: float
) -> float | str:
    """When ACCESS_TOKEN ends, in unix seconds of our clock; or why nobody knows, in a word.

    Never raises for network or server.

    Args:
        deadline: seconds its request may take once it has left.
    """
    assert client.endpoints.introspection is not None
    asked = asked_about(client.endpoints.introspection, access_token)
    reply = await endpoint.send(client, asked, patience=Patience(deadline))
    if not isinstance(reply, Reply):
        return reply.reason
    told = read_introspection(reply, now)
    if isinstance(told, str):
        return told
    if not told.is_active:
        return "inactive"
    return "no_end" if told.left is None else now + told.left

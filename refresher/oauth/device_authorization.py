"""The device authorization grant: a consent on another machine's browser (RFC 8628).

The device code, like an authorization code, is a secret; the user code is what a person
types, and is of no use without it.
"""

from dataclasses import dataclass

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RequestRejected,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.ends import read_duration
from refresher.oauth.error_codes import find_error
from refresher.oauth.patience import Patience
from refresher.oauth.requests import TokenRequest
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

INTERVAL = 5.0
"""Seconds between two polls where the server tells none (RFC 8628 3.2)."""

SLOWER = 5.0
"""Seconds that each ``slow_down`` adds (RFC 8628 3.5)."""

LIFETIME = 900.0
"""Seconds a device code lives whose answer does not tell; RFC 8628 3.2 wants it told."""

DEADLINE = 30.0
"""Seconds the server may take to make a device code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorization:
    """What a person types where, and how long that counts."""

    device_code: Secret
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    """The same with the user code in it, where the server has one."""
    expires_in: float
    interval: float


async def begin(
    endpoint: TokenEndpoint, client: Client, scope: tuple[str, ...]
) -> DeviceAuthorization:
    """Have the server of CLIENT make a device code and a user code (RFC 8628 3.1).

    Raises:
        AuthorizationFailed: it does not; says why.
    """
    asked = _asked(client, scope)
    reply = await endpoint.send(client, asked, patience=Patience(DEADLINE))
    if isinstance(reply, NotSent | OutcomeUnknown):
        raise AuthorizationFailed(
            f"the device_authorization_endpoint of client {client.name} cannot be reached "
            f"({reply.reason})"
        )
    fields = read_fields(reply.body)
    found = None if fields is None or reply.status >= 300 else _read(fields)  # noqa: PLR2004  the class of status codes
    if found is None:
        raise AuthorizationFailed(_refused(client, reply, fields))
    return found


def next_interval(outcome: Outcome, interval: float) -> float | None:
    """Seconds to wait for the next poll after OUTCOME; None: there is nothing to wait for.

    A server that is away, or answers oddly, may answer next time (RFC 8628 3.5).
    """
    match outcome:
        case Transient(reason="slow_down"):
            return interval + SLOWER
        case Transient() | NotSent() | OutcomeUnknown():
            return max(interval, getattr(outcome, "retry_after", None) or 0.0)
        case _:
            return None


def explained(outcome: Outcome) -> str | None:
    """Why polling has ended, where that is of this grant; None for what any code may meet."""
    match outcome:
        case RequestRejected(error="expired_token") | GrantRejected(error="expired_token"):
            return "the code has expired before anybody consented: start the login again"
        case ClientRejected(error="access_denied") | GrantRejected(error="access_denied"):
            return "the account, or its owner, refused the access (access_denied)"
        case GrantRejected(error=error):
            return (
                f"the server does not know the device code any more ({error}): it may have expired "
                "or have been used; start the login again"
            )
        case _:
            return None


def _asked(client: Client, scope: tuple[str, ...]) -> TokenRequest:
    if client.endpoints.device_authorization is None:
        raise AuthorizationFailed(
            f"client {client.name} has no device_authorization_endpoint in the settings"
        )
    quirks = client.quirks
    sent = {**quirks.authorization_parameters, "client_id": client.client_id}
    if scope:
        sent["scope"] = quirks.scope_separator.join(scope)
    return TokenRequest(
        endpoint=client.endpoints.device_authorization,
        placement=quirks.placement,
        parameters=sent,
        headers=dict(quirks.token_headers),
    )


def _read(fields: Fields) -> DeviceAuthorization | None:
    """What FIELDS hold; ``verification_url`` is Google's name, from before the standard."""
    uri = fields.get("verification_uri") or fields.get("verification_url")
    code, typed = fields.get("device_code"), fields.get("user_code")
    complete = fields.get("verification_uri_complete") or fields.get("verification_url_complete")
    if not all(isinstance(each, str) and each for each in (uri, code, typed)):
        return None
    return DeviceAuthorization(
        device_code=Secret(str(code)),
        user_code=str(typed),
        verification_uri=str(uri),
        verification_uri_complete=complete if isinstance(complete, str) and complete else None,
        expires_in=read_duration(fields.get("expires_in")) or LIFETIME,
        interval=read_duration(fields.get("interval")) or INTERVAL,
    )


def _refused(client: Client, reply: Reply, fields: Fields | None) -> str:
    error = None if fields is None else find_error(fields, client)
    word = f"http_{reply.status}" if error is None else error.word
    return (
        f"the server gave client {client.name} no device code ({word}): check client_id, scope and "
        "device_authorization_endpoint, and whether the client may use the device flow"
    )

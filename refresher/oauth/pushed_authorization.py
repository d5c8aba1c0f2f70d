"""Pushed authorization requests (RFC 9126): what a login asks for goes to the server first."""

from dataclasses import replace

from refresher.domain.clients import Client
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.domain.quirks import Placement
from refresher.domain.repairs import not_ready, proof_demanded, wrong_client, wrong_request
from refresher.errors import AuthorizationFailed
from refresher.oauth.authorization import KNOWN_ERRORS, AuthorizationRequest, authorization_url
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.error_codes import Meaning, find_error
from refresher.oauth.metadata_values import why_unread
from refresher.oauth.patience import Patience
from refresher.oauth.requests import TokenRequest
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

PUSH_DEADLINE = 15.0
"""Seconds a server may take; a person waits for it."""

LONGEST_REFERENCE = 2048
"""Characters of a request_uri; it has to fit into a URL."""


async def push(
    endpoint: TokenEndpoint, client: Client, request: AuthorizationRequest
) -> AuthorizationRequest:
    """REQUEST, which CLIENT has sent to its server, as the reference the browser carries.

    Raises:
        AuthorizationFailed: says what was refused and what to do.
    """
    where = client.endpoints.pushed_authorization
    if where is None:
        raise AuthorizationFailed(
            f"client {client.name} is to push its authorization requests (RFC 9126), and no "
            "pushed_authorization_request_endpoint is known: set it, or its issuer"
        )
    asked = TokenRequest(endpoint=where, placement=Placement.FORM, parameters=request.parameters)
    reply = await endpoint.send(client, asked, patience=Patience(PUSH_DEADLINE))
    if isinstance(reply, Reply) and 200 <= reply.status < 300:  # noqa: PLR2004  the class of status codes
        reference = _reference(read_fields(reply.body))
        if reference is None:
            raise AuthorizationFailed(
                f"the server of client {client.name} took the pushed request and gave no "
                "request_uri: check pushed_authorization_request_endpoint"
            )
        parameters = {"client_id": client.client_id, "request_uri": reference}
        return replace(request, url=authorization_url(client, parameters))
    raise AuthorizationFailed(_why(client, reply))


def _reference(fields: Fields | None) -> str | None:
    found = None if fields is None else fields.get("request_uri")
    if not isinstance(found, str) or not found or len(found) > LONGEST_REFERENCE:
        return None
    return found if found.isascii() and found.isprintable() and " " not in found else None


def _why(client: Client, reply: Reply | NotSent | OutcomeUnknown) -> str:
    """Why nothing was taken, and what to do about it."""
    where = f"the pushed authorization request of client {client.name}"
    if isinstance(reply, NotSent) and reply.reason == client.missing:
        return not_ready(reply.reason, client.name)
    if not isinstance(reply, Reply):
        return f"{where} did not reach its server ({why_unread(reply)}): start the login again"
    fields = read_fields(reply.body)
    error = None if fields is None else find_error(fields, client)
    if error is None:
        mend = "check pushed_authorization_request_endpoint"
        if reply.status >= 500:  # noqa: PLR2004  the class of status codes
            mend = "the server fails: start the login again later"
        return f"{where} was not taken ({why_unread(reply)}): {mend}"
    refused = f"{where} was refused ({error.word})"
    match error.meaning:
        case Meaning.PROOF:
            return f"{refused}: {proof_demanded(client.name)}"
        case Meaning.CLIENT:
            return f"{refused}: {wrong_client(client.name)}"
        case Meaning.LATER | Meaning.FAILED:
            return f"{refused}: start the login again later"
        case _:
            mend = KNOWN_ERRORS.get(error.word) or wrong_request(client.name, error.word)
            return f"{refused}: {mend}"

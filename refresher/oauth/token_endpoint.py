"""Token requests: one exchange with an authorization server and what became of it."""

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, assert_never

from refresher.clock import Clock, SystemClock
from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    AnswerUnread,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    SubjectMissing,
)
from refresher.domain.renewal import (
    Assertion,
    ClientCredentials,
    RefreshToken,
    Renewal,
    SubjectToken,
)
from refresher.domain.secret import Secret
from refresher.oauth import (
    authorization_code,
    client_credentials,
    device_code,
    jwt_bearer,
    refresh_token,
    token_exchange,
)
from refresher.oauth.client_authentication import KeyUnusable
from refresher.oauth.patience import Patience
from refresher.oauth.requests import (
    TokenRequest,
    WireRequest,
    build_request,
    get_request,
    json_request,
    single,
)
from refresher.oauth.responses import classify
from refresher.oauth.templates import Templates
from refresher.oauth.transport import Reply, Transport


class TokenEndpoint:
    """Sends token requests for every client over one pool of connections.

    An async context manager. No method raises for what a network or a server does. A
    request that was sent cannot be unsent: callers shield an exchange from cancellation.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._transport = Transport()
        self._templates = Templates()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def refresh(
        self,
        client: Client,
        renewal: Renewal,
        *,
        scope: tuple[str, ...] = (),
        redirect_uri: str | None = None,
        patience: Patience,
    ) -> Outcome:
        """Send one token request that presents RENEWAL.

        Args:
            patience: how long it may take once the request has left.
        """
        match renewal:
            case RefreshToken():
                filled = self._templates.filled(
                    client, renewal, scope=scope, redirect_uri=redirect_uri
                )
                if filled is not None:
                    return await self._sent(client, *filled, patience)
                asked = refresh_token.request(
                    client, renewal, scope=scope, redirect_uri=redirect_uri
                )
            case ClientCredentials(terms=terms):
                asked = client_credentials.request(client, terms, scope=scope)
            case Assertion(terms=terms):
                try:
                    asked = jwt_bearer.request(client, terms, self._clock.now(), scope=scope)
                except KeyUnusable:
                    return NotSent(reason="client_private_key")
            case SubjectToken(presents=presented, terms=terms):
                if presented is None:
                    return SubjectMissing(subject=terms.subject or "")
                asked = token_exchange.request(client, presented, terms, scope=scope)
            case _:
                assert_never(renewal)
        return await self._exchange(client, asked, patience)

    async def poll(self, client: Client, code: Secret, *, patience: Patience) -> Outcome:
        """Ask once what became of a device code (RFC 8628 3.4)."""
        asked = device_code.request(client, code)
        return await self._exchange(client, asked, patience)

    async def redeem(
        self,
        client: Client,
        code: Secret,
        *,
        redirect_uri: str,
        code_verifier: Secret | None,
        patience: Patience,
    ) -> Outcome:
        """Send one authorization_code grant (RFC 6749 4.1.3, RFC 7636 4.5)."""
        asked = authorization_code.request(
            client, code, redirect_uri=redirect_uri, code_verifier=code_verifier
        )
        return await self._exchange(client, asked, patience)

    async def send(
        self,
        client: Client,
        asked: TokenRequest,
        *,
        patience: Patience,
    ) -> Reply | NotSent | OutcomeUnknown:
        """Send what is ASKED, as CLIENT."""
        request = self._built(client, asked)
        if isinstance(request, NotSent):
            return request
        return await self._transport.send(client, request, patience=patience)

    def _built(self, client: Client, asked: TokenRequest) -> WireRequest | NotSent:
        """What is ASKED as CLIENT sends it, or why it cannot be."""
        if client.missing is not None:
            return NotSent(reason=client.missing)
        try:
            return build_request(client, asked, self._clock.now())
        except KeyUnusable:
            return NotSent(reason="client_private_key")
        except ValueError:
            return NotSent(reason="invalid_url")

    async def get(
        self, client: Client, url: str, *, patience: Patience
    ) -> Reply | NotSent | OutcomeUnknown:
        """GET what everybody may read at URL, the way CLIENT goes out."""
        try:
            request = get_request(url)
        except ValueError:
            return NotSent(reason="invalid_url")
        return await self._transport.send(client, request, patience=patience)

    async def post(
        self,
        client: Client,
        url: str,
        content: Mapping[str, Any],
        *,
        headers: Mapping[str, str],
        patience: Patience,
    ) -> Reply | NotSent | OutcomeUnknown:
        """POST CONTENT as JSON to URL, the way CLIENT goes out, which is not named by it."""
        try:
            request = json_request(url, content, headers)
        except ValueError:
            return NotSent(reason="invalid_url")
        return await self._transport.send(client, request, patience=patience)

    async def _exchange(self, client: Client, asked: TokenRequest, patience: Patience) -> Outcome:
        request = self._built(client, asked)
        if isinstance(request, NotSent):
            return request
        return await self._sent(client, request, single(asked.parameters), patience)

    async def _sent(
        self, client: Client, request: WireRequest, sent: Mapping[str, str], patience: Patience
    ) -> Outcome:
        """What becomes of REQUEST, whose parameters are SENT."""
        sent_at = self._clock.now()
        reply = await self._transport.send(client, request, patience=patience)
        if not isinstance(reply, Reply):
            return reply
        try:
            outcome = classify(
                reply.status,
                reply.headers,
                reply.body,
                client,
                sent_at,
                broken=reply.broken,
                sent=sent,
            )
        except Exception as error:  # noqa: BLE001  supervision: our bug must not cost the answer
            return AnswerUnread(status=reply.status, body=reply.body, bug=error)
        if reply.is_lenient and isinstance(outcome, Refreshed | RefreshTokenOnly):
            return replace(outcome, answer=replace(outcome.answer, is_searched=True))
        return outcome

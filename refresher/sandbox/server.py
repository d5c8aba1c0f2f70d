"""The sandbox: an OAuth 2.0 authorization server with scripted faults, on loopback.

Listens, routes and owns the life of the tasks; what is answered is decided in
``authorization_server``, what goes wrong in ``faults``. Everything is in memory, and
nothing that was issued or logged is ever forgotten: a sandbox lives as long as a test or a
demonstration.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
from aiohttp import web

from refresher.sandbox import survilla
from refresher.sandbox.answers import Refused
from refresher.sandbox.applications import Application
from refresher.sandbox.authorization_server import OWNER, AuthorizationServer
from refresher.sandbox.control import Control
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from refresher.sandbox.exchanges import TokenExchanges, http_response, read_token_request
from refresher.sandbox.families import Families, TokenPolicy
from refresher.sandbox.faults import FaultPlan
from refresher.sandbox.introducing import Introducing
from refresher.sandbox.messages import Minted
from refresher.sandbox.options import SandboxOptions

_HOST = "127.0.0.1"

# How long handlers may go on after the end was decided; aiohttp takes 0 for "for ever".
_SHUTDOWN_SECONDS = 0.05


class Sandbox:
    """An authorization server to be entered with ``async with``.

    Args:
        clock: unix seconds; decides expiry and grace and stamps the log.

    Attributes:
        client: the application that exists from the start.
        log: one record for each token request, in the order of arrival.
        faults: the plan of what goes wrong.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options or SandboxOptions()
        self.log: list[ExchangeRecord] = []
        self.faults = FaultPlan(
            mix=self.options.mix,
            latency=self.options.latency,
            rate_limit=self.options.rate_limit,
            seed=self.options.seed,
        )
        self._clock = clock
        self._server = AuthorizationServer(self.options, clock)
        self._port = self.options.port
        self.introducing = Introducing(
            self._server, clock, lambda: self.base_url, self._standard_metadata
        )
        self._stack = AsyncExitStack()
        self._runner: web.AppRunner | None = None
        self.client = self.register(
            name="sandbox",
            client_id=self.options.client_id,
            client_secret=self.options.client_secret,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            exchanges = TokenExchanges(
                server=self._server,
                plan=self.faults,
                log=self.log,
                tasks=tasks,
                clock=self._clock,
            )
            application = web.Application()
            application.add_routes(self._routes(exchanges))
            runner = web.AppRunner(
                application,
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=_SHUTDOWN_SECONDS,
            )
            await runner.setup()
            stack.push_async_callback(_clean_up, runner)
            # Runs before the cleanup: exchanges that still wait are dropped, not waited for.
            stack.callback(tasks.cancel_scope.cancel)
            self._runner = runner
            await self._listen()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(exc_type, exc, traceback)

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[None]:
        """Refuse connections for a while: the port is closed, all state stays.

        Requests in flight are cut; to the log it looks as if their clients had gone.
        """
        assert self._runner is not None
        for site in self._runner.sites:
            await site.stop()
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()
            await self._runner.server.shutdown(_SHUTDOWN_SECONDS)
        try:
            yield
        finally:
            await self._listen()

    @property
    def base_url(self) -> str:
        return f"http://{_HOST}:{self._port}"

    @property
    def authorization_endpoint(self) -> str:
        return self.base_url + self._path("/authorize", survilla.AUTHORIZE_PATH)

    @property
    def token_endpoint(self) -> str:
        return self.base_url + self._path("/token", survilla.TOKEN_PATH)

    @property
    def revocation_endpoint(self) -> str:
        return self.base_url + self._path("/revoke", survilla.REVOKE_PATH)

    @property
    def resource_url(self) -> str:
        return f"{self.base_url}/resource"

    @property
    def families(self) -> Families:
        """Every authorization with its generations; to be read, not changed."""
        return self._server.families

    @property
    def injected(self) -> Counter[str]:
        """How often each kind of fault was injected."""
        return self.faults.injected

    @property
    def tokens_issued(self) -> int:
        """How many access tokens were issued, delivered or not."""
        return self._server.families.access_tokens_issued

    def register(
        self,
        *,
        name: str = "application",
        description: str = "",
        redirect_uris: Sequence[str] | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        public: bool = False,
        policy: TokenPolicy | None = None,
        public_key: str | None = None,
        created_by: str = OWNER,
    ) -> Application:
        """Register an application; one of the same id is replaced (a rotated secret).

        Args:
            redirect_uris: None for those of the options.
            public: it has no secret.
            policy: of its tokens; None for that of the options.
            public_key: of its assertions, in PEM form.
            created_by: the account at the keyboard.

        Raises:
            PermissionError: that account has limited rights.
        """
        return self._server.register(
            name=name,
            description=description,
            redirect_uris=self.options.redirect_uris if redirect_uris is None else redirect_uris,
            client_id=client_id,
            client_secret=client_secret,
            public=public,
            policy=policy,
            public_key=public_key,
            created_by=created_by,
        )

    def mint(
        self, *, client_id: str | None = None, subject: str = OWNER, scope: str = "read"
    ) -> Minted:
        """A grant as if the account had just authorized the client.

        Args:
            client_id: None for the application that exists from the start.
            scope: separated by commas or spaces.

        Raises:
            KeyError: there is no such client.
        """
        return self._server.mint(client_id=client_id, subject=subject, scope=scope)

    def make_api_token(self, subject: str, rights: Sequence[str]) -> str:
        """A static token, accepted wherever an access token is; it never ends."""
        return self._server.make_api_token(subject, rights)

    def revoke_family(self, family_id: str) -> None:
        """End one authorization, as an account does on the server's own pages.

        Raises:
            KeyError: there is no such family.
        """
        self._server.revoke_family(family_id)

    def secrets(self) -> list[str]:
        """Every secret this sandbox ever knew, to be searched for where none may be."""
        return [*self._server.secrets(), *self.introducing.registration_tokens]

    def overlaps(self) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
        """Pairs of exchanges of one family that were in flight at the same time."""
        return overlaps(self.log)

    def stats(self) -> dict[str, Any]:
        """Counts of what happened, fit for JSON."""
        families = list(self.families)
        return {
            "token_requests": len(self.log),
            "tokens_issued": self.tokens_issued,
            "errors": dict(Counter(record.error for record in self.log if record.error)),
            "injected": dict(self.injected),
            "overlaps": len(self.overlaps()),
            "clients_gone": sum(record.client_gone for record in self.log),
            "families": len(families),
            "families_revoked": sum(family.revoked_at is not None for family in families),
            "reuses": sum(family.reuses for family in families),
        }

    async def _listen(self) -> None:
        assert self._runner is not None
        await web.TCPSite(self._runner, _HOST, self._port).start()
        self._port = self._runner.addresses[0][1]
        self._server.resource = self.introducing.resource

    def _path(self, standard: str, portal: str) -> str:
        return standard if self.options.dialect == "standard" else portal

    def _routes(self, exchanges: TokenExchanges) -> list[web.RouteDef]:
        routes = [web.get("/resource", self._resource), *Control(self).routes()]
        if self.options.dialect == "survilla":
            return [
                *routes,
                web.get(survilla.AUTHORIZE_PATH, self._authorize),
                web.get(f"{survilla.AUTHORIZE_PATH}/", self._authorize),
                web.post(survilla.TOKEN_PATH, exchanges.handle),
                *survilla.SurvillaPortal(self._server, self._clock).routes(),
            ]
        return [
            *routes,
            web.get("/authorize", self._authorize),
            *self._token_routes(exchanges),
            web.post("/revoke", self._revoke),
            web.post("/device_authorization", self._authorize_device),
            web.get("/device", self._decide),
            web.post("/app/installations/{installation}/access_tokens", exchanges.handle),
            *self.introducing.routes(),
        ]

    def _token_routes(self, exchanges: TokenExchanges) -> list[web.RouteDef]:
        paths = ["/token", *self.options.manners.more_paths]
        routes = [web.post(path, exchanges.handle) for path in paths]
        return routes + [web.get(path, exchanges.handle) for path in paths]

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        try:
            issuer = self.base_url if self.options.names_issuer else None
            manners = self.options.manners
            query = self.introducing.asked(request.query)
            manners.check_login(query)
            location = self._server.authorize(manners.read(query), issuer=issuer)
        except Refused as refused:
            return web.Response(status=400, text=refused.description)
        return web.Response(status=302, headers={"Location": location})

    async def _authorize_device(self, request: web.Request) -> web.StreamResponse:
        token_request = await read_token_request(request, self.options)
        answer = self._server.authorize_device(token_request, f"{self.base_url}/device")
        return http_response(answer)

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        """The page on which an account consents to a user code, or not."""
        approves = self.options.consent == "approve"
        decision = request.query.get("decision", "approve" if approves else "deny")
        try:
            self.decide_device(request.query.get("user_code", ""), approve=decision == "approve")
        except Refused as refused:
            return web.Response(status=400, text=refused.description)
        return web.Response(text=decision)

    def decide_device(self, user_code: str, *, approve: bool, subject: str = OWNER) -> None:
        """Answer a device authorization as an account does on another machine.

        Raises:
            Refused: nobody asks under this code any more.
        """
        self._server.machines.decide(user_code, approve=approve, subject=subject)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        token_request = await read_token_request(request, self.options)
        return http_response(self._server.revoke(token_request))

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        """A protected resource (RFC 6750)."""
        bearer = self._server.bearer(request.headers.get("Authorization"))
        if bearer is None:
            challenge = 'Bearer realm="sandbox", error="invalid_token"'
            return web.json_response(
                {"error": "invalid_token"}, status=401, headers={"WWW-Authenticate": challenge}
            )
        return web.json_response({"subject": bearer.subject, "scope": " ".join(bearer.scope)})

    def _standard_metadata(self) -> dict[str, Any]:
        """Authorization server metadata (RFC 8414)."""
        metadata: dict[str, Any] = {
            "issuer": self.base_url,
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint,
            "revocation_endpoint": self.revocation_endpoint,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "none",
            ],
        }
        if self.options.names_issuer:
            metadata["authorization_response_iss_parameter_supported"] = True
        if self.options.scopes:
            metadata["scopes_supported"] = list(self.options.scopes)
        return metadata


async def _clean_up(runner: web.AppRunner) -> None:
    # Shielded: the end of the sandbox has cancelled the scope this runs in.
    with anyio.CancelScope(shield=True):
        await runner.cleanup()

"""The control endpoints below /_sandbox, for a sandbox that runs as its own process.

They offer over HTTP what the Sandbox object offers in Python.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from refresher.sandbox.applications import Application
from refresher.sandbox.exchange_log import ExchangeRecord
from refresher.sandbox.families import Families, TokenPolicy
from refresher.sandbox.faults import FaultPlan, PlanChange
from refresher.sandbox.messages import Minted

_Order = TypeVar("_Order", bound=BaseModel)

_PLAN_CHANGE = TypeAdapter(PlanChange)


class _GrantOrder(BaseModel):
    """Body of POST /_sandbox/grants; with ``count`` the answer is {"grants": [...]}."""

    model_config = ConfigDict(extra="forbid")

    client_id: str | None = None
    subject: str = "owner"
    scope: str = "read"
    count: int | None = Field(default=None, ge=1)


class _ApplicationOrder(BaseModel):
    """Body of POST /_sandbox/applications."""

    model_config = ConfigDict(extra="forbid")

    name: str = "application"
    description: str = ""
    redirect_uris: tuple[str, ...] | None = None
    client_id: str | None = None
    client_secret: str | None = None
    public: bool = False
    policy: TokenPolicy | None = None


class _RevocationOrder(BaseModel):
    """Body of POST /_sandbox/revocations."""

    model_config = ConfigDict(extra="forbid")

    family_id: str


class Controlled(Protocol):
    """What the control endpoints ask of a sandbox, in Sandbox's words."""

    log: list[ExchangeRecord]
    faults: FaultPlan

    @property
    def families(self) -> Families: ...

    def stats(self) -> dict[str, Any]: ...

    def mint(self, *, client_id: str | None, subject: str, scope: str) -> Minted: ...

    def register(
        self,
        *,
        name: str,
        description: str,
        redirect_uris: Sequence[str] | None,
        client_id: str | None,
        client_secret: str | None,
        public: bool,
        policy: TokenPolicy | None,
    ) -> Application: ...

    def revoke_family(self, family_id: str) -> None: ...


class Control:
    """Handlers of the control endpoints."""

    def __init__(self, sandbox: Controlled) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sandbox/log", self._log),
            web.get("/_sandbox/stats", self._stats),
            web.get("/_sandbox/families", self._families),
            web.post("/_sandbox/grants", self._mint),
            web.post("/_sandbox/applications", self._register),
            web.post("/_sandbox/revocations", self._revoke),
            web.post("/_sandbox/faults", self._change_plan),
        ]

    async def _log(self, request: web.Request) -> web.Response:
        """The exchanges; ``?after=N`` leaves out those up to sequence number N."""
        after = int(request.query.get("after", "0"))
        return web.json_response([asdict(record) for record in self._sandbox.log[after:]])

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self._sandbox.stats())

    async def _families(self, _request: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "family_id": family.family_id,
                    "client_id": family.client_id,
                    "subject": family.subject,
                    "generation": family.generation,
                    "revoked_at": family.revoked_at,
                    "revoked_because": family.revoked_because,
                    "reuses": family.reuses,
                }
                for family in self._sandbox.families
            ]
        )

    async def _mint(self, request: web.Request) -> web.Response:
        order = _read(_GrantOrder, await request.read())
        try:
            grants = [
                asdict(
                    self._sandbox.mint(
                        client_id=order.client_id, subject=order.subject, scope=order.scope
                    )
                )
                for _ in range(order.count or 1)
            ]
        except KeyError as error:
            raise web.HTTPNotFound(text="there is no such client") from error
        return web.json_response(grants[0] if order.count is None else {"grants": grants})

    async def _register(self, request: web.Request) -> web.Response:
        order = _read(_ApplicationOrder, await request.read())
        application = self._sandbox.register(
            name=order.name,
            description=order.description,
            redirect_uris=order.redirect_uris,
            client_id=order.client_id,
            client_secret=order.client_secret,
            public=order.public,
            policy=order.policy,
        )
        return web.json_response(
            {"client_id": application.client_id, "client_secret": application.client_secret}
        )

    async def _revoke(self, request: web.Request) -> web.Response:
        order = _read(_RevocationOrder, await request.read())
        try:
            self._sandbox.revoke_family(order.family_id)
        except KeyError as error:
            raise web.HTTPNotFound(text="there is no such family") from error
        return web.json_response({})

    async def _change_plan(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            change = _PLAN_CHANGE.validate_json(body or b"{}")
        except ValidationError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._sandbox.faults.apply(change)
        return web.json_response({})


def _read(kind: type[_Order], body: bytes) -> _Order:
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise web.HTTPBadRequest(text=str(error)) from error

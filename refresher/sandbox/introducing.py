"""How a client gets to know the server: metadata, a resource, registration, pushed requests."""

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from refresher.sandbox.answers import Refused, json_answer, refusal
from refresher.sandbox.authorization_server import AuthorizationServer
from refresher.sandbox.exchanges import http_response, read_token_request

PREFIX = "urn:ietf:params:oauth:request_uri:"
PUSHED_LIFETIME = 60.0

WELL_KNOWN = "/.well-known"
RESOURCE = "/mcp"


class Introducing:
    """Handlers of what a client asks before it has tokens.

    Args:
        base_url: the server's own address, which is its issuer.
        metadata: those of the server, without what is added here.

    Attributes:
        changes: fields of the metadata that are told otherwise from now on, as by somebody who
            has taken them over.
    """

    def __init__(
        self,
        server: AuthorizationServer,
        clock: Callable[[], float],
        base_url: Callable[[], str],
        metadata: Callable[[], dict[str, Any]],
    ) -> None:
        self._server = server
        self._clock = clock
        self._base_url = base_url
        self._metadata = metadata
        self._pushed: dict[str, tuple[float, Mapping[str, str]]] = {}
        self.changes: dict[str, Any] = {}
        self.registration_tokens: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        openness = self._server.options.openness
        routes = []
        if openness.metadata == "oauth":
            routes.append(web.get(f"{WELL_KNOWN}/oauth-authorization-server", self._show))
        if openness.metadata == "openid":
            routes.append(web.get(f"{WELL_KNOWN}/openid-configuration", self._show))
        if openness.registers:
            routes.append(web.post("/register", self._register))
        if openness.pushes != "never":
            routes.append(web.post("/par", self._push))
        if openness.resource != "none":
            places = {
                "challenge": "/resource-metadata",
                "path": f"{WELL_KNOWN}/oauth-protected-resource{RESOURCE}",
                "host": f"{WELL_KNOWN}/oauth-protected-resource",
            }
            place = places[openness.resource]
            routes += [web.route("*", RESOURCE, self._refuse), web.get(place, self._show_resource)]
        return routes

    @property
    def resource(self) -> str | None:
        """What tokens are for; None for anything."""
        openness = self._server.options.openness
        if openness.resource == "none":
            return None
        return self._base_url() + ("" if openness.resource == "host" else RESOURCE)

    def asked(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """What QUERY of an authorization request asks for, pushed or not.

        Raises:
            Refused: it had to be pushed, or what it names was not.
        """
        reference = query.get("request_uri")
        if reference is None:
            if self._server.options.openness.pushes == "required":
                raise Refused("invalid_request", "authorization requests have to be pushed")
            return query
        ends_at, pushed = self._pushed.pop(reference, (0.0, {}))
        if self._clock() >= ends_at or pushed.get("client_id") != query.get("client_id"):
            raise Refused("invalid_request", "the request_uri is unknown, used or too old")
        return pushed

    async def _show(self, _request: web.Request) -> web.StreamResponse:
        openness, base_url = self._server.options.openness, self._base_url()
        told = self._metadata()
        if openness.registers:
            told["registration_endpoint"] = f"{base_url}/register"
        if openness.pushes != "never":
            told["pushed_authorization_request_endpoint"] = f"{base_url}/par"
            told["require_pushed_authorization_requests"] = openness.pushes == "required"
        return web.json_response(told | self.changes)

    async def _refuse(self, _request: web.Request) -> web.StreamResponse:
        """The protected resource, asked without a token (RFC 9728 section 5.1)."""
        challenge = 'Bearer error="invalid_token"'
        if self._server.options.openness.resource == "challenge":
            challenge += f', resource_metadata="{self._base_url()}/resource-metadata"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def _show_resource(self, _request: web.Request) -> web.StreamResponse:
        base_url = self._base_url()
        told = {"resource": self.resource, "authorization_servers": [base_url]}
        return web.json_response(told | {"scopes_supported": ["read"]})

    async def _register(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = json.loads(await request.read())
            told = self._registered(wanted, request.headers.get("Authorization"))
        except Refused as refused:
            return http_response(refusal(refused))
        return web.json_response(told, status=201)

    def _registered(self, wanted: dict[str, Any], authorization: str | None) -> dict[str, Any]:
        openness = self._server.options.openness
        expected = openness.initial_access_token
        if expected is not None and authorization != f"Bearer {expected}":
            raise Refused("invalid_token", "an initial access token is needed", status=401)
        if not wanted.get("redirect_uris"):
            raise Refused("invalid_redirect_uri", "there is none")
        is_public = openness.public_clients or wanted["token_endpoint_auth_method"] == "none"
        made = self._server.register(
            name=wanted["client_name"], redirect_uris=wanted["redirect_uris"], public=is_public
        )
        token = f"registration-{secrets.token_urlsafe(16)}"
        self.registration_tokens.append(token)
        told = wanted | {
            "client_id": made.client_id,
            "registration_access_token": token,
            "registration_client_uri": f"{self._base_url()}/register/{made.client_id}",
        }
        if made.client_secret is None:
            return told | {"token_endpoint_auth_method": "none"}
        life = openness.client_secret_lifetime
        ends_at = 0 if life is None else int(self._clock() + life)
        return told | {"client_secret": made.client_secret, "client_secret_expires_at": ends_at}

    async def _push(self, request: web.Request) -> web.StreamResponse:
        token_request = await read_token_request(request, self._server.options)
        try:
            if token_request.problem is not None:
                raise token_request.problem
            application = self._server.authenticate(token_request)
            parameters = {**token_request.parameters, "client_id": application.client_id}
            self._server.check_redirect_uri(application, parameters)
        except Refused as refused:
            return http_response(refusal(refused))
        reference = f"{PREFIX}{secrets.token_urlsafe(16)}"
        self._pushed[reference] = (self._clock() + PUSHED_LIFETIME, parameters)
        told = {"request_uri": reference, "expires_in": int(PUSHED_LIFETIME)}
        return http_response(json_answer(told, status=201))

"""What only a Survilla portal has: its revocation answer and its GraphQL endpoint.

Facts are the portal's public documentation; where it is silent (the answer to a dead
token) this follows the habit of GraphQL servers.
"""

from collections.abc import Callable

from aiohttp import web

from refresher.sandbox.authorization_server import AuthorizationServer

AUTHORIZE_PATH = "/oauth2/auth"
TOKEN_PATH = "/oauth2/token"
REVOKE_PATH = "/oauth2/revoke"
API_PATH = "/api/graphql.php"

CAMERAS = ("Entrance", "Yard", "Warehouse")

# An account of limited rights was given these.
_CAMERAS_OF_GUESTS = ("Yard",)


class SurvillaPortal:
    """The handlers beside the token endpoint."""

    def __init__(self, server: AuthorizationServer, clock: Callable[[], float]) -> None:
        self._server = server
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [web.post(REVOKE_PATH, self._revoke), web.post(API_PATH, self._graphql)]

    async def _revoke(self, request: web.Request) -> web.Response:
        """The access token and its refresh token die; the status is 200 whatever happens."""
        families = self._server.families
        family = families.family_of_access_token(request.query.get("access_token", ""))
        success = family is not None and family.revoked_at is None
        if family is not None:
            families.revoke(family, because="revoked by the client", now=self._clock())
        message = "The token was revoked." if success else "The token is not valid."
        return web.json_response({"success": success, "message": message})

    async def _graphql(self, request: web.Request) -> web.Response:
        """The camera list, as far as the account's rights reach."""
        bearer = self._server.bearer(request.headers.get("Authorization"))
        if bearer is None:
            return _graphql_error("Unauthorized", status=401)
        if "read" not in bearer.scope:
            return _graphql_error("The token lacks the right to read", status=403)
        full = self._server.has_full_rights(bearer.subject)
        visible = CAMERAS if full else _CAMERAS_OF_GUESTS
        return web.json_response({"data": {"cameraList": [{"name": name} for name in visible]}})


def _graphql_error(message: str, *, status: int) -> web.Response:
    return web.json_response({"errors": [{"message": message}]}, status=status)

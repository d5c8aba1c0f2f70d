"""What a server tells of itself, and what it takes beside token requests, as options."""

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Openness:
    """How far a server can be used without knowing it.

    Args:
        metadata: where its metadata are: RFC 8414, OpenID Connect Discovery, or nowhere.
        resource: what is protected at /mcp names this server (RFC 9728), and tokens are given
            for it alone (RFC 8707): how it is found.
        registers: clients can register themselves (RFC 7591).
        initial_access_token: what they must show for it.
        client_secret_lifetime: seconds a registered client's secret is said to live.
        public_clients: registered ones get no secret.
        pushes: authorization requests may, or must, be pushed (RFC 9126).
        demands_proof: refuses token requests for want of a DPoP proof (RFC 9449), in the words of
            oidc-provider: refreshes, or all.
    """

    metadata: Literal["oauth", "openid", "none"] = "oauth"
    resource: Literal["none", "challenge", "path", "host"] = "none"
    registers: bool = False
    initial_access_token: str | None = None
    client_secret_lifetime: float | None = None
    public_clients: bool = False
    pushes: Literal["never", "offered", "required"] = "never"
    demands_proof: Literal["never", "refreshes", "all"] = "never"

"""What can be chosen about a sandbox, from Python or from JSON."""

import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from refresher.sandbox.families import TokenPolicy
from refresher.sandbox.faults import FaultMix
from refresher.sandbox.manners import Manners
from refresher.sandbox.openness import Openness

Dialect = Literal["standard", "survilla"]

# The whole list of the portal's documentation.
SURVILLA_SCOPES = (
    "read",
    "write",
    "liveview",
    "audiotransmit",
    "liveview_ptz",
    "liveview_light",
    "liveview_audioclip",
    "recordings",
    "recordings_delete",
    "events",
)

# What tells a Survilla portal from a server by the book; each can be overridden.
_SURVILLA_DEFAULTS: dict[str, Any] = {
    "dialect": "survilla",
    "scopes": SURVILLA_SCOPES,
    "parameters_in": "query",
    "allowed_scopes": {"guest": ("read", "liveview")},
}

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SandboxOptions(TokenPolicy):
    """A sandbox: the policy of its tokens, its manners and its faults.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        client_id: of the application that exists from the start.
        scopes: every scope the server knows; empty: whatever is asked for.
        allowed_scopes: what accounts of limited rights may grant; an account that is not
            named here has full rights.
        consent: what the account answers when it is asked; ``decision`` in an
            authorization request overrides it.
        code_lifetime: of an authorization code, in seconds.
        device_code_lifetime: of a device code.
        device_interval: seconds between two polls for one.
        audiences: every audience the server knows; empty: whatever is asked for.
        refused_subjects: accounts for which no assertion is accepted.
        names_issuer: redirects carry ``iss``, and the metadata promise it (RFC 9207).
        parameters_in: where the token endpoint looks for its parameters.
        manners: what it calls them, and how it answers.
        openness: what it tells of itself, and what it takes beside token requests.
        redirect_parameter: what the redirect URI is called in requests.
        latency: seconds from, to, which every token answer takes.
        rate_limit: token requests a second that are taken, and as many at once; more are
            answered 429 with a Retry-After of a second.
        mix: faults by chance.
        seed: of the latency.
    """

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    dialect: Dialect = "standard"
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"
    redirect_uris: tuple[str, ...] = ("http://127.0.0.1/callback",)
    scopes: tuple[str, ...] = ()
    allowed_scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    consent: Literal["approve", "deny"] = "approve"
    code_lifetime: float = 60.0
    device_code_lifetime: float = 600.0
    device_interval: float = 5.0
    audiences: tuple[str, ...] = ()
    refused_subjects: tuple[str, ...] = ()
    names_issuer: bool = False
    parameters_in: Literal["form", "json", "query", "get", "either"] = "form"
    manners: Manners = Manners()
    openness: Openness = Openness()
    redirect_parameter: Literal["redirect_uri", "redirect_url"] = "redirect_uri"
    latency: tuple[float, float] = (0.0, 0.0)
    rate_limit: float | None = None
    mix: FaultMix | None = None
    seed: int = 0

    @classmethod
    def survilla(cls, **changes: Any) -> Self:
        """The manners of a Survilla portal, with changes by field name."""
        return cls(**{**_SURVILLA_DEFAULTS, **changes})

    @classmethod
    def from_json_or_file(
        cls,
        argument: str,
        *,
        below: Mapping[str, Any] = _NOTHING,
        above: Mapping[str, Any] = _NOTHING,
    ) -> "SandboxOptions":
        """Options from JSON on the command line or from the file it names.

        Args:
            below: fields for where the JSON says nothing.
            above: fields that win over it.

        Raises:
            OSError: the file cannot be read.
            ValueError: not JSON, an unknown field or a bad value; the text says which.
        """
        inline = argument.lstrip().startswith("{")
        given = json.loads(argument if inline else Path(argument).read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("the options must be a JSON object")  # noqa: TRY004  a bad value, not a bad call
        defaults = _SURVILLA_DEFAULTS if given.get("dialect") == "survilla" else {}
        return TypeAdapter(SandboxOptions).validate_python({**defaults, **below, **given, **above})

    @property
    def scope_separator(self) -> str:
        return "," if self.dialect == "survilla" else " "

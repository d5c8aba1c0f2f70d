"""What goes into the authorization server and comes out of it, without HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass

from refresher.sandbox.answers import Answer, Refused
from refresher.sandbox.families import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A grant made without a browser; ``expires_in`` in seconds."""

    refresh_token: str
    access_token: str
    expires_in: int | None
    family_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Who stands behind a valid access token or static API token, and what it permits."""

    subject: str
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token request as it arrived; ``problem`` is a fault of its form, found by HTTP."""

    parameters: Mapping[str, str]
    authorization: str | None
    problem: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What came of a token request: the true answer, and whose it was if it succeeded."""

    answer: Answer
    family: Family | None = None
    generation: int | None = None

"""What a command may ask for: one model for the parameters of each operation.

Everything that comes over the control socket is checked here, whoever sent it. To add an
operation: a model here, the type of its answer in ``answers``, a method of ``Operations`` that
takes the one and gives the other, and its line in ``Operations.by_name``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from refresher.app.parameters import (
    GIVEN,
    WRONG_TYPE,
    AccessToken,
    Cursor,
    Duration,
    Instant,
    KeptId,
    Labels,
    Name,
    OverviewSize,
    PageSize,
    Pasted,
    Scope,
    SecretText,
    State,
    Text,
)
from refresher.errors import ParameterRefused
from refresher.text import plain
from refresher.vault.listing import LARGEST_PAGE

JSON = Any
"""Whatever ``json`` reads and writes."""

Operation = Callable[[Mapping[str, JSON]], Awaitable[JSON]]

LONGEST_NAME_SHOWN = 40
"""Characters of a parameter that nobody knows: it may be a secret in the wrong place."""


class Call(BaseModel):
    """The parameters of one operation; one that it does not know is refused, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Ping(Call):
    """Who answers."""


class Overview(Call):
    """How many grants there are in each state, and the most urgent of each kind of trouble."""

    limit: OverviewSize = 50


class Grants(Call):
    """A page of grants by name, from behind AFTER on."""

    after: Text = ""
    limit: PageSize = LARGEST_PAGE
    state: State | None = None
    client: Name | None = None


class OneGrant(Call):
    """Everything known of one grant."""

    name: Name


class Revocations(Call):
    """A page of what has still to be revoked, by grant, from behind AFTER on."""

    after: Text = ""
    limit: PageSize = LARGEST_PAGE
    name: Name | None = None


class Kept(Call):
    """A page of the answers that found no grant, from behind the one with the id AFTER on."""

    after: Cursor = 0
    limit: PageSize = LARGEST_PAGE


class Changes(Call):
    """A page of who changed what, back from before the change with the id AFTER, or from now."""

    after: Cursor = 0
    limit: PageSize = LARGEST_PAGE
    name: Name | None = None


class AdoptKept(Call):
    """A kept answer to count for the grant NAME, or for the one that it came for."""

    id: KeptId
    name: Name | None = None


class DropKept(Call):
    """A kept answer to be forgotten."""

    id: KeptId


class Refresh(Call):
    """A refresh of one grant now."""

    name: Name


class _Selecting(Call):
    """Which grants are meant: those that are named, or every one of a client."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["names"], "properties": {"names": GIVEN}},
                {"required": ["client"], "properties": {"client": GIVEN}},
            ]
        }
    )

    names: list[Name] | None = None
    client: Name | None = None

    @model_validator(mode="after")
    def _means_one_or_the_other(self) -> Self:
        if (self.names is None) is (self.client is None):
            raise ValueError("takes names or a client, and not both")
        return self


class Pause(_Selecting):
    """Nothing to be sent for some grants, for so many SECONDS or until they are resumed."""

    seconds: Duration | None = None


class Resume(_Selecting):
    """The pauses of some grants to be over, whatever their reason."""


class Export(Call):
    """A page of grants with their refresh tokens: these, those of a client, or all."""

    names: list[Name] | None = None
    client: Name | None = None
    after: Cursor = 0


class RefreshLost(Call):
    """What was finally rejected, once more: these grants, those of a client, or all."""

    names: list[Name] | None = None
    client: Name | None = None


class LoginBegin(Call):
    """A login: what it would be for, and its start."""

    name: Name
    client: Name | None = None
    redirect_uri: Text | None = None


class LoginFinish(Call):
    """The end of a login: PASTED is the redirected URL, or the bare code."""

    login: Text
    pasted: Pasted


class LoginDevice(Call):
    """The start of a login by a code that is typed on another machine."""

    name: Name
    client: Name | None = None


class LoginPoll(Call):
    """Whether somebody has consented to such a login by now."""

    login: Text


class Register(Call):
    """One client to be registered at its server."""

    client: Name
    again: bool = False


class Discover(Call):
    """What the server of one client tells of itself, now."""

    client: Name
    accept: bool = False


class Clients(Call):
    """What is known of the clients that leave something to their servers."""


class ImportedGrant(Call):
    """A grant with its first tokens: refreshable with a refresh token, else static."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["refresh_token", "client"],
                    "properties": {"refresh_token": GIVEN, "client": GIVEN},
                },
                {
                    "required": ["access_token"],
                    "properties": {"access_token": GIVEN, "refresh_token": {"type": "null"}},
                },
            ]
        }
    )

    name: Name
    client: Name | None = None
    refresh_token: SecretText | None = None
    access_token: AccessToken | None = None
    expires_at: Instant | None = None
    scope: Scope | None = None
    labels: Labels | None = None
    token_type: Text | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.refresh_token is None and self.access_token is None:
            raise ValueError("has neither a refresh_token nor an access_token")
        if self.refresh_token is not None and self.client is None:
            raise ValueError("has a refresh_token and no client")
        return self


class Import(Call):
    """Grants that another system authorized."""

    grants: list[ImportedGrant]
    replace: bool = False


class Remove(Call):
    """One grant to be forgotten."""

    name: Name


class Revoke(Call):
    """One grant to be ended at its server."""

    name: Name


class SetToken(Call):
    """The new token of a static grant."""

    name: Name
    token: AccessToken
    expires_at: Instant | None = None
    token_type: Text | None = None


class RotateKey(Call):
    """A new vault key."""


class KeyStatus(Call):
    """What is sealed under which key."""


C = TypeVar("C", bound=Call)


@dataclass(frozen=True, slots=True)
class Taking(Generic[C]):
    """An operation as it is offered: its parameters come as JSON and are checked by MODEL."""

    model: type[C]
    work: Callable[[C], Awaitable[JSON]]

    async def __call__(self, parameters: Mapping[str, JSON]) -> JSON:
        """What it answers to PARAMETERS.

        Raises:
            ParameterRefused: names every parameter that is missing, unknown or wrong.
        """
        return await self.work(read_call(self.model, parameters))


def read_call(model: type[C], parameters: Mapping[str, JSON]) -> C:
    """PARAMETERS as MODEL.

    Raises:
        ParameterRefused: names every parameter that is missing, unknown or wrong; tells no
            value, for whoever took one field for another has a secret there.
    """
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
    raise ParameterRefused([(_place(each), _wording(each)) for each in mistakes])


def _place(mistake: ErrorDetails) -> str:
    """The parameter as a person would write it: ``grants[3].name``."""
    place = ""
    for part in mistake["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        else:
            shown = plain(part[:LONGEST_NAME_SHOWN])
            place += f".{shown}" if place else shown
    return place


def _wording(mistake: ErrorDetails) -> str:
    match mistake["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is no parameter of this operation"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case _:
            return WRONG_TYPE

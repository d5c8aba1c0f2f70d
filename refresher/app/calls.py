"""What a command may ask for: one model for the parameters of each operation.

Everything that comes over the control socket is checked here, whoever sent it. To add an
operation: a model here, a method of ``Operations`` that takes it, and its line in
``Operations.by_name``.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from refresher.domain.grants import (
    LABEL_RULE,
    NAME_RULE,
    GrantState,
    is_valid_label,
    is_valid_name,
)
from refresher.domain.secret import Secret
from refresher.errors import ParameterRefused
from refresher.text import is_plain, plain
from refresher.times import LATEST_INSTANT
from refresher.vault.listing import BUILT, LARGEST_PAGE

JSON = Any
"""Whatever ``json`` reads and writes."""

Operation = Callable[[Mapping[str, JSON]], Awaitable[JSON]]

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What an access token is made of (RFC 6749 A.12, RFC 6750 2.1)."""

SHOWN_STATES = [state.value for state in GrantState if state is not GrantState.REMOVED]
"""States by which grants can be listed."""

LONGEST_NAME_SHOWN = 40
"""Characters of a parameter that nobody knows: it may be a secret in the wrong place."""

WRONG_TYPE = "has the wrong type"


def _name(text: str) -> str:
    if not is_valid_name(text):
        raise ValueError(f"is outside the alphabet ({NAME_RULE})")
    return text


def _plain_text(text: str) -> str:
    if not is_plain(text):
        raise ValueError("holds a control character, or half of a surrogate pair")
    return text


def _labels(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if not all(is_valid_label(key) and isinstance(text, str) for key, text in value.items()):
        raise ValueError(f"must be strings, their keys of {LABEL_RULE}")
    return {key: _plain_text(text) for key, text in value.items()}


def _scope(value: Any) -> Any:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be a string or a list of strings")
    return [_plain_text(word) for word in words]


def _instant(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not 0 < value < LATEST_INSTANT:
        raise ValueError("is no time in unix seconds")
    return value


def _duration(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not 0 < value < LATEST_INSTANT:
        raise ValueError("is no duration in seconds")
    return value


def _secret(value: Any) -> Secret:
    if not isinstance(value, str):
        raise ValueError(WRONG_TYPE)  # noqa: TRY004  pydantic reads no TypeError
    if not value.strip():
        raise ValueError("is empty")
    return Secret(_plain_text(value))


def _pasted(value: Any) -> Secret:
    """What a person pasted, white space and all: the login judges it."""
    if not isinstance(value, str):
        raise ValueError(WRONG_TYPE)  # noqa: TRY004  pydantic reads no TypeError
    return Secret(value)


def _access_token(value: Any) -> Secret:
    secret = _secret(value)
    if not VISIBLE.fullmatch(secret.reveal()):
        raise ValueError("is no token: it has blanks or letters like ä in it")
    return secret


def _state(value: Any) -> GrantState:
    if value not in SHOWN_STATES:
        raise ValueError(f"must be one of {', '.join(SHOWN_STATES)}")
    return GrantState(value)


def _up_to(most: int) -> Callable[[int], int]:
    def checked(value: int) -> int:
        if not 1 <= value <= most:
            raise ValueError(f"must be from 1 to {most}")
        return value

    return checked


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_plain_text)]
Labels = Annotated[dict[str, str], BeforeValidator(_labels)]
Scope = Annotated[list[str], BeforeValidator(_scope)]
Instant = Annotated[float, BeforeValidator(_instant)]
Duration = Annotated[float, BeforeValidator(_duration)]
SecretText = Annotated[Secret, PlainValidator(_secret)]
Pasted = Annotated[Secret, PlainValidator(_pasted)]
State = Annotated[GrantState, PlainValidator(_state)]
PageSize = Annotated[int, AfterValidator(_up_to(LARGEST_PAGE))]
OverviewSize = Annotated[int, AfterValidator(_up_to(BUILT))]
AccessToken = Annotated[Secret, PlainValidator(_access_token)]


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


class Refresh(Call):
    """A refresh of one grant now."""

    name: Name


class _Selecting(Call):
    """Which grants are meant: those that are named, or every one of a client."""

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
    after: int = 0


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


def taking(model: type[C], operation: Callable[[C], Awaitable[JSON]]) -> Operation:
    """OPERATION as it is offered: its parameters come as JSON and are checked by MODEL.

    Raises (when it is called):
        ParameterRefused: names every parameter that is missing, unknown or wrong.
    """

    async def checked(parameters: Mapping[str, JSON]) -> JSON:
        return await operation(read_call(model, parameters))

    return checked


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

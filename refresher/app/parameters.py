"""The kinds of parameters: how each is checked by hand, and what ``openapi.json`` says of it.

No message quotes a value: whoever took one parameter for another has a secret there.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict

from refresher.domain.grants import (
    LABEL_PATTERN,
    LABEL_RULE,
    NAME_PATTERN,
    NAME_RULE,
    GrantState,
    is_valid_label,
    is_valid_name,
)
from refresher.domain.secret import Secret
from refresher.text import is_plain
from refresher.times import LATEST_INSTANT
from refresher.vault.listing import BUILT, LARGEST_PAGE

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What an access token is made of (RFC 6749 A.12, RFC 6750 2.1)."""

SHOWN_STATES = [state.value for state in GrantState if state is not GrantState.REMOVED]
"""States by which grants can be listed."""

LARGEST_CURSOR = 2**53 - 1
"""The last whole number that JSON has in every language; no table has so many rows."""

KEPT_ID = re.compile(r"(rescue-)?[0-9]{1,18}")

WRONG_TYPE = "has the wrong type"


def _name(text: str) -> str:
    if not is_valid_name(text):
        raise ValueError(f"is outside the alphabet ({NAME_RULE})")
    return text


def _kept_id(text: str) -> str:
    if not KEPT_ID.fullmatch(text):
        raise ValueError("is no id of a kept answer: a number, or rescue- and a number")
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
    words = _plain_text(value).split() if isinstance(value, str) else value
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


def _whole(value: Any) -> Any:
    """A number without a fraction is whole, however it is written (JSON Schema)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _within(least: int, most: int) -> Callable[[int], int]:
    def checked(value: int) -> int:
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    return checked


def _shown(**schema: Any) -> WithJsonSchema:
    """What ``openapi.json`` says of a parameter that is checked by hand."""
    return WithJsonSchema(schema)


GIVEN: JsonDict = {"not": {"type": "null"}}
_SECRET = {"type": "string", "format": "password", "writeOnly": True}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": LATEST_INSTANT}

_CONTROL = r"\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_PLAIN: JsonDict = {"type": "string", "pattern": f"^[^{_CONTROL}]*$"}
"""What ``is_plain`` takes, as a pattern of ECMA 262."""

Name = Annotated[
    str, AfterValidator(_name), _shown(type="string", pattern=f"^{NAME_PATTERN.pattern}$")
]
KeptId = Annotated[
    str, AfterValidator(_kept_id), _shown(type="string", pattern=f"^{KEPT_ID.pattern}$")
]
Text = Annotated[str, AfterValidator(_plain_text), _shown(**_PLAIN)]
Labels = Annotated[
    dict[str, str],
    BeforeValidator(_labels),
    _shown(
        type="object",
        propertyNames={"pattern": f"^{LABEL_PATTERN.pattern}$"},
        additionalProperties=_PLAIN,
    ),
]
Scope = Annotated[
    list[str],
    BeforeValidator(_scope),
    _shown(anyOf=[_PLAIN, {"type": "array", "items": _PLAIN}]),
]
Instant = Annotated[
    float, BeforeValidator(_instant), _shown(**_SECONDS, description="Unix seconds.")
]
Duration = Annotated[float, BeforeValidator(_duration), _shown(**_SECONDS, description="Seconds.")]
SecretText = Annotated[
    Secret,
    PlainValidator(_secret),
    _shown(**_SECRET, pattern=rf"^[^{_CONTROL}]*[^{_CONTROL}\s][^{_CONTROL}]*$"),
]
Pasted = Annotated[Secret, PlainValidator(_pasted), _shown(**_SECRET)]
State = Annotated[GrantState, PlainValidator(_state), _shown(type="string", enum=SHOWN_STATES)]
Cursor = Annotated[
    int,
    BeforeValidator(_whole),
    AfterValidator(_within(0, LARGEST_CURSOR)),
    _shown(type="integer", minimum=0, maximum=LARGEST_CURSOR),
]
PageSize = Annotated[
    int,
    BeforeValidator(_whole),
    AfterValidator(_within(1, LARGEST_PAGE)),
    _shown(type="integer", minimum=1, maximum=LARGEST_PAGE),
]
OverviewSize = Annotated[
    int,
    BeforeValidator(_whole),
    AfterValidator(_within(1, BUILT)),
    _shown(type="integer", minimum=1, maximum=BUILT),
]
AccessToken = Annotated[
    Secret, PlainValidator(_access_token), _shown(**_SECRET, pattern=f"^{VISIBLE.pattern}$")
]

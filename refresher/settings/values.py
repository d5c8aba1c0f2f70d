"""The kinds of value a setting can have, and how each is read from TOML or from text.

Everything in an environment variable is text, so every kind can be written as text. No
message repeats the value it complains about: a secret may stand in the wrong place.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator

from refresher.domain import quirks
from refresher.domain.clients import UnknownOutcome
from refresher.domain.quirks import Rotation
from refresher.domain.secret import Secret
from refresher.times import read_duration, read_instant

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 3.3."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the settings table calls a kind of value."""

    name: str


@dataclass(frozen=True, slots=True)
class Given:
    """The secret itself, as the settings give it."""

    value: Secret


@dataclass(frozen=True, slots=True)
class InFile:
    """The secret is the content of a file."""

    path: str


@dataclass(frozen=True, slots=True)
class InVariable:
    """The secret is the value of an environment variable."""

    name: str


@dataclass(frozen=True, slots=True)
class FromCommand:
    """The secret is what a command prints."""

    arguments: tuple[str, ...] = field(repr=False)
    """Not shown: a person may have put something secret among them."""


@dataclass(frozen=True, slots=True)
class InCredential:
    """The secret is a file of systemd's credentials or of the secret directory."""

    name: str


SecretSource = Given | InFile | InVariable | FromCommand | InCredential

SECRET_FORMS = 'a string, or one of { file = "..." }, { env = "..." }, { command = [...] } and '
SECRET_FORMS += '{ credential = "..." }'


def split_words(value: Any) -> Any:
    """A text parted at spaces and commas; a list stays as it is."""
    return tuple(re.findall(r"[^\s,]+", value)) if isinstance(value, str) else value


def split_phrases(value: Any) -> Any:
    """A text parted at semicolons, or a list; in lower case, since case is not compared."""
    parts = value.split(";") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return value
    return tuple(filter(None, (part.strip().lower() for part in parts)))


def split_spaces(value: Any) -> Any:
    """A text parted at white space; a list stays as it is."""
    return tuple(value.split()) if isinstance(value, str) else value


def read_scope(value: Any) -> Any:
    """A scope as a list, or as a text parted at spaces and commas.

    Raises:
        ValueError: a value has characters RFC 6749 3.3 does not allow.
    """
    words = split_words(value)
    if isinstance(words, list | tuple):
        for word in words:
            if isinstance(word, str) and not SCOPE_TOKEN.fullmatch(word):
                raise ValueError(
                    "has a value with a space, a quote, a backslash or a character that is not "
                    "ASCII (RFC 6749 3.3): give one list item for each value"
                )
    return words


def read_rotation(value: Any) -> Rotation:
    """A rotation profile from its text.

    Raises:
        ValueError: it is none.
    """
    try:
        return Rotation.parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            'is not a rotation profile: use "none", "grace(SECONDS)", "until_used", "strict" or '
            '"unknown"'
        ) from error


def read_secret(value: Any) -> SecretSource:
    """Where a secret is to be found.

    Raises:
        ValueError: VALUE is neither a text nor a table with one known key.
    """
    if isinstance(value, str):
        return Given(Secret(value))
    if isinstance(value, Mapping) and len(value) == 1:
        ((form, argument),) = value.items()
        if form == "command":
            return FromCommand(_command(argument))
        if isinstance(argument, str) and argument:
            if form == "file":
                return InFile(argument)
            if form == "env":
                return InVariable(argument)
            if form == "credential" and PurePath(argument).name == argument != "..":
                return InCredential(argument)
    raise ValueError(f"must be {SECRET_FORMS}")


def _command(argument: Any) -> tuple[str, ...]:
    """Words of a command; a text (all a variable can hold) is parted as a shell would."""
    words = shlex.split(argument) if isinstance(argument, str) else argument
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        return tuple(words)
    raise ValueError('has a command that is not a list of strings, as in ["pass", "show", "x"]')


Duration = Annotated[float, BeforeValidator(read_duration), Field(ge=0), Kind("duration")]
Instant = Annotated[float, BeforeValidator(read_instant), Field(gt=0), Kind("instant")]
Words = Annotated[tuple[str, ...], BeforeValidator(split_words), Kind("list of strings")]
Phrases = Annotated[tuple[str, ...], BeforeValidator(split_phrases), Kind("list of strings")]
Uris = Annotated[tuple[str, ...], BeforeValidator(split_spaces), Kind("list of strings")]
Scope = Annotated[tuple[str, ...], BeforeValidator(read_scope), Kind("list of strings")]
RotationValue = Annotated[Rotation, PlainValidator(read_rotation), Kind("rotation profile")]
SecretValue = Annotated[SecretSource, PlainValidator(read_secret), Kind("secret")]
Command = Annotated[tuple[str, ...], BeforeValidator(_command), Kind("list of strings")]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[Duration, Field(gt=0)]

READERS: Mapping[Any, Any] = {
    bool: bool,
    str: Text,
    quirks.Words: Words,
    quirks.Phrases: Phrases,
    quirks.Seconds: Positive,
    quirks.Pause: Duration,
    quirks.Count: Annotated[int, Field(ge=1, le=1024)],
    quirks.Rate: Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Mapping[str, str]: dict[str, str],
    quirks.Rotation: RotationValue,
    **{
        choice: choice
        for choice in (
            *(quirks.ClientAuthentication, quirks.AssertionAlgorithm, quirks.AssertionAudience),
            *(quirks.Placement, quirks.LifetimeUnit, UnknownOutcome),
        )
    },
}
"""How each type of a key that the domain declares is read."""

"""Where settings come from: arguments, environment, secret directories, one TOML file.

Each source becomes a layer: nested tables of raw values, and the place a person would
have to look at for each of them. pydantic-settings merges the layers by precedence.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

KeyPath = tuple[str | int, ...]

PREFIX = "REFRESHER_"
NESTED = "__"

NAMED_SECTIONS = frozenset({"clients", "grants"})
"""Sections of tables whose names are the operator's and keep their case."""

SECRET_KEYS = frozenset(
    {"client_secret", "password", "proxy", "refresh_token", "static_token", "url"}
)
"""Keys whose table is one value: a form from one layer never mixes with that of another."""

SECRET_DIRECTORY = "secret directory"
"""The origin of what files of the secret directories say."""

LARGEST_FILE = 65_536
"""Bytes: whatever is larger is no secret; keeps a wrong path from filling the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one source says."""

    values: Mapping[str, Any] = field(repr=False)
    place: str
    """Where its values stand, unless ``places`` knows better."""
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    origin: str = "literal"
    """How a secret that stands in it is said to have come."""
    problems: tuple[str, ...] = ()

    def holds(self, path: KeyPath) -> bool:
        """Whether this layer has a value at PATH."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return False
            value = value[key]
        return True

    def place_of(self, path: KeyPath) -> str:
        """Where the value at PATH, or the first key of the table at PATH, stands."""
        for known, place in self.places.items():
            if known[: len(path)] == path:
                return place
        return self.place


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """One table out of LAYERS, the first of which wins."""

    class Merged(BaseSettings, extra="allow"):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            *_: PydanticBaseSettingsSource,
            **__: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(
                InitSettingsSource(settings_cls, _atomic(layer.values)) for layer in layers
            )

    return Merged().model_extra or {}


def _atomic(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """VALUES with the tables of secrets closed, so that merging replaces them whole."""
    closed: dict[str, Any] = {}
    for key, value in values.items():
        path = (*above, key)
        if not isinstance(value, Mapping):
            closed[key] = value
        elif key in SECRET_KEYS and len(path) == (3 if path[0] in NAMED_SECTIONS else 2):
            closed[key] = MappingProxyType(value)
        else:
            closed[key] = _atomic(value, path)
    return closed


def argument_layer(arguments: Mapping[str, Any]) -> Layer:
    """What the command line says, as nested tables."""
    return Layer(values=arguments, place="command line")


def file_layer(path: Path) -> Layer:
    """The TOML file PATH; what keeps it from being read is a problem of the layer."""
    place = str(path)
    try:
        return Layer(values=tomllib.loads(path.read_text("utf-8")), place=place)
    except tomllib.TOMLDecodeError as error:
        reason = f"is not valid TOML: {error}"
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start})"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError:
        # Numbers of thousands of digits, and a NUL in the file's name.
        reason = "holds a number, or has a name, that cannot be used"
    return Layer(values={}, place=place, problems=(f"{place}: {reason}",))


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """Variables such as ``REFRESHER_CLIENTS__acme__CLIENT_SECRET``.

    Others that merely begin with the prefix are left alone: Kubernetes makes
    ``REFRESHER_PORT`` for a service named ``refresher``.
    """
    return _named_layer(
        {name: value for name, value in environment.items() if _is_setting(name)},
        {name: f"environment {name}" for name in environment},
        origin="environment",
        place="environment",
    )


def directory_layer(directory: Path) -> Layer:
    """Files of DIRECTORY named like variables; others in it are somebody else's."""
    values: dict[str, str] = {}
    problems: list[str] = []
    try:
        paths = sorted(path for path in directory.iterdir() if _is_setting(path.name))
    except FileNotFoundError:
        paths = []
    except (OSError, ValueError) as error:
        paths, problems = [], [f"{directory}: cannot be read: {_why(error)}"]
    for path in paths:
        try:
            values[path.name] = read_text_file(path)
        except ValueError as error:
            problems.append(f"{path}: {error}")
    return _named_layer(
        values,
        {name: str(directory / name) for name in values},
        origin=SECRET_DIRECTORY,
        place=str(directory),
        problems=problems,
    )


def absolute(base: Path, text: str) -> Path:
    """The path TEXT, counted from BASE; ``~`` is the user's folder where there is one."""
    try:
        return base / Path(text).expanduser()
    except (RuntimeError, ValueError):
        return base / text


def read_text_file(path: Path) -> str:
    """The text of a small file without the newline at its end.

    Raises:
        ValueError: it cannot be read, is no file, is too large or is not UTF-8; tells no
            content.
    """
    try:
        # Without blocking: a FIFO would be waited for until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read: {_why(error)}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {_why(error)}") from error
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"is larger than {LARGEST_FILE} bytes: no secret is")
    return decoded(content)


def decoded(content: bytes) -> str:
    """CONTENT as text without the newline that editors and ``echo`` leave at the end.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # Not chained: the error carries the bytes.
        raise ValueError("is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _why(error: OSError | ValueError) -> str:
    """Why a file cannot be opened; a ValueError comes of its name alone."""
    return f"{error.strerror}" if isinstance(error, OSError) else "its name holds a NUL"


def misspelled_variables(
    environment: Mapping[str, str], known: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Variables that are settings but for the doubled underscore, each with the right name."""
    right = {name.replace(NESTED, "_"): name for name in known if NESTED in name}
    return ((name, right[name]) for name in sorted(environment) if name in right)


def _is_setting(name: str) -> bool:
    rest = name.removeprefix(PREFIX)
    return rest != name and (NESTED in rest or rest == "SECRETS_DIR")


def _named_layer(
    values: Mapping[str, str],
    places: Mapping[str, str],
    *,
    origin: str,
    place: str,
    problems: Sequence[str] = (),
) -> Layer:
    """Values with names such as ``REFRESHER_REDIS__URL`` as nested tables."""
    tables: dict[str, Any] = {}
    places_of: dict[KeyPath, str] = {}
    found = list(problems)
    for name in sorted(values):
        path = _path_of(name)
        if _put(tables, path, values[name]):
            places_of[path] = places[name]
        else:
            found.append(f"{places[name]}: the same key is set twice: keep one of the two")
    return Layer(values=tables, place=place, places=places_of, origin=origin, problems=tuple(found))


def _put(tables: dict[str, Any], path: tuple[str, ...], value: str) -> bool:
    """Put VALUE at PATH; False if there is a value at, above or below it already."""
    *above, key = path
    table: Any = tables
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return False
    return bool(table.setdefault(key, value) is value)


def _path_of(name: str) -> tuple[str, ...]:
    """The keys NAME stands for: lower case but for names the operator chose."""
    parts = name.removeprefix(PREFIX).split(NESTED)
    section = parts[0].lower()
    if section not in NAMED_SECTIONS:
        return (section, *(part.lower() for part in parts[1:]))
    names, key = parts[1:2], [part.lower() for part in parts[2:3]]
    keeps_case = key and key[0].endswith("_parameters")
    tail = parts[3:] if keeps_case else [part.lower() for part in parts[3:]]
    return (section, *names, *key, *tail)

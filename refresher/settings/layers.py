"""Where settings come from: arguments, environment, secret directories, one TOML file.

Each source becomes a layer: nested tables of raw values, and the place a person would
have to look at for each of them. pydantic-settings merges the layers by precedence.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from refresher.files import Fault, Unseen, read_file

KeyPath = tuple[str | int, ...]

PREFIX = "REFRESHER_"
NESTED = "__"

NAMED_SECTIONS = frozenset({"clients", "grants"})
"""Sections of tables whose names are the operator's and keep their case."""

SECRET_KEYS = frozenset(
    {"client_secret", "second_client_secret", "client_private_key", "password", "proxy"}
    | {"refresh_token", "static_token", "url"}
)
"""Keys whose table is one value: a form from one layer never mixes with that of another."""

SECRET_DIRECTORY = "secret directory"
"""The origin of what files of the secret directories say."""

LARGEST_FILE = 65_536
"""Bytes: whatever is larger is no secret; keeps a wrong path from filling the memory."""

LARGEST_SETTINGS = 64 * 1024 * 1024
"""Bytes of a settings file: some hundred thousand grants."""

DEEPEST = 16
"""Tables within tables; the settings know four. Whoever nests more would exhaust the stack."""

MOST_PARTS = 1_000
"""Dots between two signs of equality; the parser's work grows with their square."""

UNREAD = "unread"
"""Stands for a secret that a command has no use for."""


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
    unseen: tuple[str, ...] = ()
    """What this user may not look at; the daemon's user may."""
    faults: tuple[Fault, ...] = ()
    """Why others can change the file."""

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
        content, faults = read_file(path, largest=LARGEST_SETTINGS)
    except ValueError as error:
        return Layer(values={}, place=place, problems=(f"{place}: {error}",))
    try:
        text = content.decode("utf-8")
        values = None if _is_dotted_too_often(text) else tomllib.loads(text)
        if values is not None and not is_too_deep(values):
            return Layer(values=values, place=place, faults=tuple(faults))
        reason = "is nested too deeply"
    except tomllib.TOMLDecodeError as error:
        reason = f"is not valid TOML: {error}"
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start})"
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError:
        reason = "holds a number that cannot be used"  # of thousands of digits
    return Layer(values={}, place=place, problems=(f"{place}: {reason}",))


def _is_dotted_too_often(text: str) -> bool:
    """Whether a key may have so many parts that the parser takes minutes and gigabytes."""
    segments = (segment for line in text.splitlines() for segment in line.split("="))
    return any(segment.count(".") > MOST_PARTS for segment in segments)


def is_too_deep(values: Any) -> bool:
    """Whether VALUES hold tables or lists more than ``DEEPEST`` deep."""
    level = [values]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, Mapping | list)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
        if not level:
            return False
    return True


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


def directory_layer(directory: Path, *, leaves_secrets: bool = False) -> Layer:
    """Files of DIRECTORY named like variables; others in it are somebody else's.

    Args:
        leaves_secrets: do not read the files that are named like a secret.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    unseen: list[str] = []
    paths: list[Path] = []
    try:
        paths = sorted(path for path in directory.iterdir() if _is_setting(path.name))
    except FileNotFoundError:
        pass
    except PermissionError as error:
        unseen = [f"{directory}: cannot be read: {error.strerror}"]
    except (OSError, ValueError) as error:
        problems = [f"{directory}: cannot be read: {_why(error)}"]
    for path in paths:
        if leaves_secrets and _is_secret(_path_of(path.name)):
            values[path.name] = UNREAD
            continue
        try:
            values[path.name] = read_text_file(path)
        except Unseen as error:
            unseen.append(f"{path}: {error}")
        except ValueError as error:
            problems.append(f"{path}: {error}")
    return _named_layer(
        values,
        {name: str(directory / name) for name in values},
        origin=SECRET_DIRECTORY,
        place=str(directory),
        problems=problems,
        unseen=unseen,
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
        Unseen: permission is denied.
        ValueError: it cannot be read, is no file, is too large, is not UTF-8, or others can
            change it; tells no content.
    """
    content, faults = read_file(path, largest=LARGEST_FILE)
    if faults:
        raise ValueError(f"others can change: {faults[0].text}")
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


def _is_secret(path: tuple[str, ...]) -> bool:
    """Whether PATH is the key of a secret, or leads into its table."""
    place = 2 if path[0] in NAMED_SECTIONS else 1
    return path[place : place + 1] != () and path[place] in SECRET_KEYS


def _named_layer(
    values: Mapping[str, str],
    places: Mapping[str, str],
    *,
    origin: str,
    place: str,
    problems: Sequence[str] = (),
    unseen: Sequence[str] = (),
) -> Layer:
    """Values with names such as ``REFRESHER_REDIS__URL`` as nested tables."""
    tables: dict[str, Any] = {}
    places_of: dict[KeyPath, str] = {}
    found = list(problems)
    for name in sorted(values):
        path = _path_of(name)
        if len(path) > DEEPEST:
            found.append(f"{places[name]}: is nested too deeply")
        elif _put(tables, path, values[name]):
            places_of[path] = places[name]
        else:
            found.append(f"{places[name]}: the same key is set twice: keep one of the two")
    return Layer(
        values=tables,
        place=place,
        places=places_of,
        origin=origin,
        problems=tuple(found),
        unseen=tuple(unseen),
    )


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

"""Everything that is wrong with the settings, each with its place, in a person's words."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from refresher.settings.document import Document
from refresher.settings.layers import KeyPath, Layer
from refresher.text import plain

WORDING = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list of tables: write it in two pairs of brackets",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
    "string_type": "must be a string, in quotes",
    "tuple_type": "must be a list of strings",
}
"""Where pydantic's own words would not help a person; the rest is close enough."""


class Report:
    """Collects problems and warnings, and knows where each key was set.

    Args:
        layers: what the sources said, the winning one first.
        forgives_unseen: what this user may not look at is no problem.
    """

    def __init__(self, layers: Sequence[Layer], *, forgives_unseen: bool = False) -> None:
        self._layers = layers
        self._forgives_unseen = forgives_unseen
        self._faulty: set[KeyPath] = set()
        self.problems = [plain(text) for layer in layers for text in layer.problems]
        self.warnings: list[str] = []
        self.not_seen: list[str] = []
        """What another user would have to look at."""
        self.of_service: list[str] = []
        """What the service alone can look at."""
        hidden = [plain(text) for layer in layers for text in layer.unseen]
        (self.not_seen if forgives_unseen else self.problems).extend(hidden)

    def problem(self, path: KeyPath, text: str) -> None:
        """Note that the value at PATH cannot be used; TEXT says why and what would mend it."""
        self._faulty.add(path)
        self.problems.append(self._line(path, text))

    def warning(self, path: KeyPath, text: str) -> None:
        """Note something that works but should be otherwise."""
        self.warnings.append(self._line(path, text))

    def unseen(self, path: KeyPath, text: str, *, of_service: bool) -> None:
        """Note that this user may not look at the value of PATH, or that only the service may."""
        if self._forgives_unseen:
            self._faulty.add(path)
            (self.of_service if of_service else self.not_seen).append(self._line(path, text))
        else:
            self.problem(path, text)

    def is_faulty(self, path: KeyPath) -> bool:
        """Whether a problem at PATH is known: what would follow from it is not worth a line."""
        return path in self._faulty

    def layer_of(self, path: KeyPath) -> Layer | None:
        """The layer whose value at PATH counts."""
        return next((layer for layer in self._layers if layer.holds(path)), None)

    def _line(self, path: KeyPath, text: str) -> str:
        keys = tuple(key for key in path if isinstance(key, str))
        # A key that is missing is missed where its table begins: in the file, if anywhere.
        layer = self.layer_of(keys) or next(
            (layer for layer in reversed(self._layers) if layer.holds(keys[:-1])), None
        )
        place = layer.place_of(keys) if layer else "settings"
        return plain(f"{place}: {shown(path)} {text}")


def judge(merged: dict[str, Any], report: Report) -> Document:
    """The settings of MERGED without what is wrong, all of which goes to REPORT.

    What is wrong is taken out and the rest judged again: pydantic skips whole tables
    behind a first mistake.
    """
    left: dict[str, Any] = _copied(merged)
    while True:
        try:
            return Document.model_validate(left)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False)
        for path, mistake in [(_existing(left, each["loc"]), each) for each in mistakes]:
            if not report.is_faulty(path):
                report.problem(path, _wording(mistake))
            _remove(left, path)


def shown(path: KeyPath) -> str:
    """PATH as a person would write it in TOML."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            quoted = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
            text += f".{quoted}" if text else quoted
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for the closest of KNOWN, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def keys_at(path: KeyPath) -> list[str]:
    """The keys the table at PATH may have; none where they are the operator's."""
    model: Any = Document
    for key in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = model.model_fields[str(key)].annotation
        else:
            model = (get_args(model) or (None,))[-1]
    is_table = isinstance(model, type) and issubclass(model, BaseModel)
    return list(model.model_fields) if is_table else []


def _wording(mistake: ErrorDetails) -> str:
    match mistake["type"]:
        case "extra_forbidden":
            *table, key = mistake["loc"]
            return f"is no known key{suggestion(str(key), keys_at(tuple(table)))}"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case "string_pattern_mismatch":
            return "has characters or a form that is not allowed"
        case known if known in WORDING:
            return WORDING[known]
        case _:
            return mistake["msg"].replace("Input should be", "must be")


def _existing(table: Mapping[str, Any], path: KeyPath) -> KeyPath:
    """The part of PATH that leads through tables, and lists of them: any other is one value."""
    kept: list[str | int] = []
    value: Any = table
    for key in path:
        if isinstance(value, list):
            if not isinstance(key, int) or not isinstance(value[key], dict):
                break
        elif not isinstance(value, dict) or key not in value:
            break
        kept.append(key)
        value = value[key]
    while kept and isinstance(kept[-1], int):  # the whole list is wrong, or one of its values
        kept.pop()
    return tuple(kept)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _copied(each) for key, each in value.items()}


def _remove(table: Any, path: KeyPath) -> None:
    *above, last = path
    for key in above:
        if isinstance(table, dict) and key not in table:
            return
        table = table[key]
    table.pop(last, None)

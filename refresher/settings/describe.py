"""Every setting with its type, default, variable and meaning: the README's table."""

from collections.abc import Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from refresher.domain.clients import Policy
from refresher.domain.quirks import Quirks, keys
from refresher.settings.document import ClientSection, Document
from refresher.settings.layers import NESTED, PREFIX
from refresher.settings.values import Kind

NAME = "NAME"
"""Stands for the name of a client or grant, which keeps its case in a variable."""

PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}


class SettingLine(NamedTuple):
    """One line of the settings table."""

    key: str
    type: str
    default: str
    """As TOML; empty where the description tells it or there is none."""
    variable: str
    description: str


def describe() -> list[SettingLine]:
    """Every key of the settings, in the order of the document."""
    return list(_lines(Document, ()))


def _lines(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[SettingLine]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        table = _table_in(field.annotation)
        if table is None:
            yield _line(model, path, field)
        elif get_origin(field.annotation) is list:
            # No variable: a list of tables is written in the file alone.
            for line in _lines(table, (*above, f"{name}[]")):
                yield line._replace(variable="")
        elif get_origin(field.annotation) is dict:
            yield from _lines(table, (*path, NAME))
        else:
            yield from _lines(table, path)


def _line(model: type[BaseModel], path: tuple[str, ...], field: FieldInfo) -> SettingLine:
    default = field.get_default(call_default_factory=True)
    if default is None and model is ClientSection:
        default = DOMAIN_DEFAULTS.get(path[-1])
    return SettingLine(
        key=".".join(path),
        type=_type_name(field.annotation, field.metadata),
        default=_as_toml(default),
        variable=PREFIX + NESTED.join(part if part == NAME else part.upper() for part in path),
        description=field.description or "",
    )


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """The section ANNOTATION is, or is a dict or a list of."""
    is_of_many = get_origin(annotation) in {dict, list}
    inner = get_args(annotation)[-1] if is_of_many else annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


DOMAIN_DEFAULTS = {key.name: key.default for key in (*keys(Quirks), *keys(Policy))}
"""What a client is without a word of the settings or of its provider."""


def _type_name(annotation: Any, metadata: list[Any]) -> str:
    for mark in metadata:
        if isinstance(mark, Kind):
            return mark.name
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0], list(inner[1:]))
    if origin in {Union, UnionType}:
        return " or ".join(_type_name(each, []) for each in inner if each is not NoneType)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in inner)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f'"{member.value}"' for member in annotation)
    if origin is dict:
        return "table of strings"
    return PLAIN[annotation]


def _as_toml(default: Any) -> str:
    if default is None or default is PydanticUndefined or default == {}:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return f"{default:.10g}"
    if isinstance(default, tuple):
        return f"[{', '.join(_as_toml(each) for each in default)}]"
    return f'"{default}"'

"""The shape of a server's answer: where its fields are, and what it calls them.

Pure and total: what is not where the client's settings say is read as the standard has it.
"""

from typing import Any

from refresher.domain.quirks import Quirks
from refresher.oauth.documents import TOKENS, Fields


def is_nested(fields: Fields, quirks: Quirks) -> bool:
    """Whether FIELDS have the object that holds the tokens at this server."""
    return bool(quirks.answer_path) and isinstance(at(fields, quirks.answer_path), dict)


def shaped(fields: Fields, quirks: Quirks) -> Fields:
    """FIELDS under the names of RFC 6749 5.1, those of a nested answer before those around it.

    The tokens around a nested answer are somebody else's: a bot's beside a user's (Slack).
    """
    if is_nested(fields, quirks):
        around = {name: value for name, value in fields.items() if name not in TOKENS}
        fields = {**around, **at(fields, quirks.answer_path)}
    theirs = quirks.answer_names
    named = {name: fields[their] for name, their in theirs.items() if their in fields}
    return {**fields, **named} if named else fields


def at(fields: Fields, path: str) -> Any:
    """What stands at PATH, names with dots between them; None where nothing does.

    A name with dots of its own is found as well.
    """
    if path in fields:
        return fields[path]
    found: Any = fields
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found

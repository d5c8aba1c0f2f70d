"""A statement that was compiled for one engine serves all others of its kind.

SQLAlchemy compiles for each engine anew. A daemon has one for its whole life; tests open a
vault each, and would spend a third of their time on the same statements.
"""

from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

STATEMENTS = 5_000


def share() -> None:
    """Do so in this process, and in what it forks."""
    compiled = LRUCache[object, object](STATEMENTS)
    setattr(Engine, "_compiled_cache", property(lambda _: compiled, lambda *_: None))  # noqa: B010
    setattr(DefaultDialect, "__hash__", _hash)  # noqa: B010  mypy wants no assignment
    setattr(DefaultDialect, "__eq__", _is_same)  # noqa: B010


def _hash(dialect: Dialect) -> int:
    return hash(type(dialect))


def _is_same(dialect: Dialect, other: object) -> bool:
    return type(dialect) is type(other)

"""A string that does not show itself."""

from typing import NoReturn


class Secret:
    """Holds a refresh token, access token, client secret or code without printing it.

    Its repr, str and format are all ``***``; it cannot be pickled. ``reveal`` is called
    only where the value goes on the wire or into the cipher (guarantee G5).
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never serialised")

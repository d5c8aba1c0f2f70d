"""Which key seals a vault, where several replicas share it and each has a key file. Pure.

What one replica seals the others must be able to open, or their grants seem lost to them. So a
new key is only known at first: each replica announces what it can open, and a key seals once all
of them can. The vault itself says which one does, so that whoever starts later knows it too.

A key that was replaced never seals again. Two files that name different keys first could turn
the vault over and over otherwise.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from refresher.domain.leases import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One replica that may meet what others have sealed."""

    holder: str
    name: str
    life: Holder
    opens: Collection[bytes] = ()
    """How begins what it can open: a format and a key. Nothing is known of an older version."""
    needs: Collection[bytes] = ()
    """Ids of the keys under which it has sealed, or may still seal, what only it can reach."""


def next_to_seal(lines: Sequence[bytes], used: Sequence[bytes]) -> bytes | None:
    """The key that is to seal next: the first of LINES, unless it does or did.

    Args:
        lines: the ids of a key file, in its order.
        used: the ids of the keys that have sealed the vault.
    """
    return lines[0] if used and lines[0] not in used else None


def unread_by(readers: Iterable[Reader], mark: bytes, now: float) -> list[Reader]:
    """Those of READERS that could not open what begins with MARK, and may come upon it.

    A silent one counts as long as it is remembered: it may wake, or hold a lease. One that is
    known to be dead does not, for its successor reads the key file, and then the vault.
    """
    return [one for one in readers if not one.life.is_dead(now) and mark not in one.opens]


def needed_by(readers: Iterable[Reader], key: bytes, now: float) -> list[Reader]:
    """Those of READERS that need KEY for what only they can reach."""
    return [one for one in readers if not one.life.is_dead(now) and key in one.needs]

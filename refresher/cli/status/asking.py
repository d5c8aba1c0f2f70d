"""Getting what is to be shown from the operations, a page at a time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from refresher.cli.calling import Call
from refresher.cli.status.wording import View, needs_person, order
from refresher.domain.grants import GrantState
from refresher.errors import UnknownGrant

OVERVIEW = 100
"""Grants of each kind of trouble that one overview holds: more than a person reads."""

IN_ORDER = (
    GrantState.REAUTHORIZATION_REQUIRED,
    GrantState.PENDING,
    GrantState.EXPIRED,
    GrantState.DEGRADED,
    GrantState.PAUSED,
    GrantState.FRESH,
)
"""States in the order in which all grants are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person wants to see."""

    grant: str | None = None
    state: str | None = None
    client: str | None = None
    everything: bool = False

    @property
    def filters(self) -> dict[str, str]:
        """The filters, as the operations take them."""
        given = {"state": self.state, "client": self.client}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def is_list(self) -> bool:
        """Whether a list is asked for, and not an overview or one grant."""
        return self.grant is None and (self.everything or bool(self.filters))


@dataclass(slots=True)
class Overview:
    """All grants in numbers, and those a person should see first, in order."""

    totals: dict[str, int]
    views: list[View] = field(default_factory=list)
    needs_person: bool = False


async def pages(call: Call, operation: str, key: str, **filters: str) -> AsyncIterator[list[View]]:
    """Every page that OPERATION answers, in the order of names."""
    after: str | None = ""
    while after is not None:
        answer = await call(operation, after=after, **filters)
        yield answer[key]
        after = answer["next"]


async def grants(call: Call, asked: Asked) -> AsyncIterator[list[View]]:
    """The grants ASKED for, a page at a time: the states most urgent first, each page in order."""
    states: Sequence[str] = [state.value for state in IN_ORDER]
    for state in [asked.state] if asked.state else states:
        filters = {**asked.filters, "state": state}
        async for page in pages(call, "grants", "grants", **filters):
            yield sorted(page, key=order)


async def overview(call: Call, asked: Asked, limit: int = OVERVIEW) -> Overview:
    """What to show first: of all grants, or of a page of those that pass the filters."""
    if asked.filters:
        answer = await call("grants", limit=limit, **asked.filters)
        views = sorted(answer["grants"], key=order)
        return Overview({}, views, any(map(needs_person, views)))
    answer = await call("overview", limit=limit)
    views = sorted(answer["grants"], key=order)
    found = Overview(answer["totals"], views, any(map(needs_person, views)))
    pending = answer["totals"].get(GrantState.PENDING.value, 0)
    if not found.needs_person and pending > limit:
        async for page in pages(call, "grants", "grants", state=GrantState.PENDING.value):
            if any(map(needs_person, page)):
                found.needs_person = True
                break
    return found


async def one(call: Call, name: str) -> tuple[View | None, list[View]]:
    """Everything known of the grant NAME, and what has still to be revoked of that name.

    Raises:
        UnknownGrant: there is neither.
    """
    parked = [each async for page in pages(call, "revocations", "revocations", name=name)
              for each in page]  # fmt: skip
    try:
        return await call("grant", name=name), parked
    except Exception as error:
        if not parked or not is_unknown(error):
            raise
        return None, parked


def is_unknown(error: Exception) -> bool:
    """Whether ERROR says that there is no such grant, whoever found that out."""
    kind: Any = getattr(error, "kind", type(error).__name__)
    return bool(kind == UnknownGrant.__name__)

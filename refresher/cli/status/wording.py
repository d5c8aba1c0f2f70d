"""How one grant reads in a list: how urgent it is, its cells, and what to do about it."""

import math
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from refresher.domain.grants import GrantState
from refresher.domain.reasons import Reason
from refresher.text import plain
from refresher.times import duration

View = Mapping[str, Any]
"""A grant as the operations show it (``app.views.view``)."""

COLOURS = {
    GrantState.FRESH: "green",
    GrantState.PENDING: "cyan",
    GrantState.DEGRADED: "yellow",
    GrantState.PAUSED: "yellow",
    GrantState.EXPIRED: "red",
    GrantState.REAUTHORIZATION_REQUIRED: "red",
}


class Urgency(IntEnum):
    """What a person looks at first, the most urgent first."""

    LOST = 0
    """Only a new authorization helps."""
    NEVER_AUTHORIZED = 1
    DOUBTED = 2
    """Refused by its server; it is asked for again."""
    EXPIRED = 3
    DEGRADED = 4
    FAILING = 5
    """Its token lives, and its refresh fails."""
    PAUSED = 6
    PENDING = 7
    """Its first refresh is due."""
    HINTED = 8
    """Fresh, with something to mend before its end."""
    WELL = 9


def urgency(view: View) -> Urgency:
    """How soon a person must look at the grant in VIEW."""
    reason = (view["reason"] or "").partition(":")[0]
    match GrantState(view["state"]):
        case GrantState.REAUTHORIZATION_REQUIRED:
            return Urgency.LOST
        case GrantState.PENDING if not view["renewable"]:
            return Urgency.NEVER_AUTHORIZED
        case GrantState.PAUSED:
            return Urgency.PAUSED
        case _ if reason == Reason.REFUSED:
            return Urgency.DOUBTED
        case GrantState.EXPIRED:
            return Urgency.EXPIRED
        case GrantState.DEGRADED:
            return Urgency.DEGRADED
        case _ if view["failures"]:
            return Urgency.FAILING
        case GrantState.PENDING:
            return Urgency.PENDING
        case _:
            return Urgency.HINTED if view["repair"] else Urgency.WELL


def is_red(view: View) -> bool:
    """Whether the grant in VIEW is to be shown however many there are."""
    return urgency(view) < Urgency.HINTED


def order(view: View) -> tuple[int, float, str]:
    """By what to sort views: the most urgent first, then by the soonest end of the token."""
    expires_at = math.inf if view["expires_at"] is None else view["expires_at"]
    return urgency(view), expires_at, view["name"]


def needs_person(view: View) -> bool:
    """Whether the grant in VIEW waits for a human.

    One that is only pending refreshes itself; a pause that has an end ends by itself.
    """
    found = urgency(view)
    if found is Urgency.PAUSED:
        return view["next_attempt_at"] is None
    return found in {Urgency.LOST, Urgency.NEVER_AUTHORIZED}


def total(totals: Mapping[str, int]) -> str:
    """All grants in one line, by state: ``14 grants: 3 paused, 11 fresh``."""
    known = sorted(totals.items(), key=lambda item: (_AT.get(item[0], -1), item[0]))
    states = ", ".join(f"{count} {state}" for state, count in known if count)
    number = sum(totals.values())
    return f"{number} grant{'' if number == 1 else 's'}: {states or 'none'}"


_AT = {
    state.value: number
    for number, state in enumerate(
        (
            GrantState.REAUTHORIZATION_REQUIRED,
            GrantState.EXPIRED,
            GrantState.DEGRADED,
            GrantState.PAUSED,
            GrantState.PENDING,
            GrantState.FRESH,
        )
    )
}


def cells(view: View, now: float) -> dict[str, str]:
    """The row of one grant, by heading."""
    labels = " ".join(f"{key}={value}" for key, value in view["labels"].items())
    return {
        "GRANT": plain(view["name"]),
        "CLIENT": plain(view["client"] or "-"),
        "STATE": view["state"],
        "LEFT": _until(view["expires_at"], now, "ended"),
        "NEXT": _until(view["next_attempt_at"], now, "now"),
        "LABELS": plain(labels) or "-",
    }


def _until(instant: float | None, now: float, passed: str) -> str:
    if instant is None:
        return "-"
    return passed if instant <= now else duration(instant - now)


def advice(view: View, now: float) -> Iterator[tuple[str, bool]]:
    """Why the grant is as it is, and what mends it: texts, and whether each is a command.

    A command stands alone, so that it can be pasted.
    """
    if view["reason"]:
        yield f"{plain(view['reason'])}, for {duration(max(now - view['since'], 0.0))}", False
    if not view["repair"]:
        return
    name = re.escape(plain(view["name"]))
    command = rf"(refresher (?:vault restore FILE|[a-z][a-z-]*(?: --[a-z-]+)* {name}(?![\w@+-])))"
    for part in re.split(command, plain(view["repair"])):
        if re.fullmatch(command, part):
            yield part, True
        elif text := part.strip(" ;,"):
            yield text, False

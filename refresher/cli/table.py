"""How grants look to a person: tables, and times in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from refresher.domain.grants import GrantState
from refresher.text import plain

COLOURS = {
    GrantState.FRESH: "green",
    GrantState.PENDING: "cyan",
    GrantState.DEGRADED: "yellow",
    GrantState.PAUSED: "yellow",
    GrantState.EXPIRED: "red",
    GrantState.REAUTHORIZATION_REQUIRED: "red",
}

NEEDS_PERSON = frozenset(
    {GrantState.REAUTHORIZATION_REQUIRED, GrantState.PAUSED, GrantState.PENDING}
)
"""States that end only by what a person does; pending ones hold no refresh token, and the
pause that has an end ends by itself."""


def needs_person(view: Mapping[str, Any]) -> bool:
    """Whether the grant in VIEW waits for a human."""
    state = GrantState(view["state"])
    waits = state in NEEDS_PERSON
    if state is GrantState.PAUSED:
        return view["next_attempt_at"] is None
    return waits and not (state is GrantState.PENDING and view["refresh_token"])


def grants_table(views: Iterable[Mapping[str, Any]], now: float) -> Table:
    """One row a grant: what it is, how it is, how long it lasts, what mends it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("GRANT", "CLIENT", "STATE", "LEFT", "NEXT", "LABELS", "REASON / REPAIR"):
        table.add_column(heading, overflow="fold")
    for view in views:
        state = GrantState(view["state"])
        told = [view["reason"], view["repair"]]
        table.add_row(
            _text(view["name"]),
            _text(view["client"]),
            Text(state.value, style=COLOURS[state]),
            span(view["expires_at"], now),
            span(view["next_attempt_at"], now),
            _text(" ".join(f"{key}={value}" for key, value in view["labels"].items())),
            _text(" - ".join(part for part in told if part)),
        )
    return table


def revocations_table(parked: Iterable[Mapping[str, Any]], now: float) -> Table:
    """One row a grant: what its server has not revoked yet, and how long it is tried."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("GRANT", "CLIENT", "PARKED", "SINCE", "ATTEMPTS", "NEXT", "UNTIL"):
        table.add_column(heading, overflow="fold")
    for one in parked:
        table.add_row(
            _text(one["name"]),
            _text(one["client"]),
            str(one["count"]),
            span(one["since"], now),
            str(one["attempts"]),
            span(one["next_attempt_at"], now),
            span(one["until"], now),
        )
    return table


def _text(value: str | None) -> Text:
    """VALUE as it is: a table reads markup in a string, and a terminal obeys controls."""
    return Text(plain(value) if value else "-")


def span(instant: float | None, now: float) -> str:
    """How far INSTANT is from NOW: ``42s``, ``7m``, ``3h``, ``12d``; ``-`` for none."""
    if instant is None:
        return "-"
    seconds = instant - now
    size = abs(seconds)
    for unit, length in (("d", 172_800), ("h", 7_200), ("m", 120)):
        if size >= length:
            scale = {"d": 86_400, "h": 3_600, "m": 60}[unit]
            return f"{seconds / scale:.0f}{unit}"
    return f"{seconds:.0f}s"


def print_table(table: Table) -> None:
    """Print to stdout, in full width where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)

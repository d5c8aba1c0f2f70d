"""Rows of grants fitted to a width: names and commands stay whole, prose is wrapped.

What does not fit is left out by its worth: first labels, then the next attempt, then the client.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import click

from refresher.cli.status.wording import COLOURS, View, advice, cells
from refresher.domain.grants import GrantState
from refresher.text import plain
from refresher.times import dated, relative

GAP = "  "
INDENT = "    "
LEAST_WORTH = ("LABELS", "NEXT", "CLIENT")

LONGEST_NAME = 40
"""Characters a name may have in its column; a longer one has a line of its own."""

Block = list[str]
"""The lines of one grant."""


def table(views: Sequence[View], now: float, width: int | None) -> tuple[str, list[Block]]:
    """The headings, and the lines of each grant, in WIDTH columns; None takes what it takes."""
    rows = [cells(view, now) for view in views]
    widths = _widths(rows, width)
    heading = _row({name: name for name in widths}, widths)
    blocks = []
    for view, row in zip(views, rows, strict=True):
        block: Block = []
        if len(row["GRANT"]) > widths["GRANT"]:
            block.append(row["GRANT"])
            row = {**row, "GRANT": ""}  # noqa: PLW2901  the rest of it stands below
        block.append(_row(row, widths, COLOURS[GrantState(view["state"])]))
        blocks.append(block + _advised(view, now, width))
    return click.style(heading, bold=True), blocks


def parked(revocations: Iterable[Mapping[str, object]], now: float, width: int | None) -> Block:
    """What has still to be revoked, a grant at a time."""
    lines: Block = []
    for one in revocations:
        who = f"{plain(str(one['name']))} (client {plain(str(one['client']))})"
        told = (
            f"{who}: {one['count']} parked {relative(_number(one['since']), now)}, asked "
            f"{one['attempts']} times, next {relative(_number(one['next_attempt_at']), now)}, "
            f"given up at {dated(_number(one['until']), now)}"
        )
        lines += wrapped(told, width, "", INDENT)
    return lines


def wrapped(text: str, width: int | None, first: str = "", rest: str = "") -> Block:
    """TEXT in lines of at most WIDTH columns, no word ever broken."""
    if width is None:
        return [first + text]
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns(text: str) -> int:
    """Columns that TEXT takes on a terminal: letters of East Asian scripts take two."""
    return sum(1 + (unicodedata.east_asian_width(each) in {"W", "F"}) for each in text)


def _advised(view: View, now: float, width: int | None) -> Block:
    lines: Block = []
    for text, is_command in advice(view, now):
        lines += [INDENT + text] if is_command else wrapped(text, width, INDENT, INDENT)
    return lines


def _widths(rows: Sequence[Mapping[str, str]], width: int | None) -> dict[str, int]:
    """How wide each column is, of those that fit."""
    headings = rows[0] if rows else {}
    widths = {name: max(len(name), *(columns(row[name]) for row in rows)) for name in headings}
    if width is None or not widths:
        return widths
    widths["GRANT"] = max(
        [len("GRANT"), *(n for row in rows if (n := len(row["GRANT"])) <= LONGEST_NAME)]
    )
    for name in LEAST_WORTH:
        if sum(widths.values()) + len(GAP) * (len(widths) - 1) > width:
            del widths[name]
    return widths


def _row(row: Mapping[str, str], widths: Mapping[str, int], colour: str | None = None) -> str:
    padded = {name: row[name] + " " * (size - columns(row[name])) for name, size in widths.items()}
    if colour is not None:
        state = row["STATE"]
        padded["STATE"] = padded["STATE"].replace(state, click.style(state, fg=colour), 1)
    return GAP.join(padded.values()).rstrip()


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)

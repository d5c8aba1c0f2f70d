"""What the matrix prints: two tables and a summary for people, one object for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.matrix.failure import GUARANTEES, Failure, Verdict
from tests.matrix.runs import RunRow
from tests.matrix.shown import Shown

WIDE = 200
"""Columns of a line that nobody reads in a terminal."""

STYLES = {
    Verdict.HELD: "green",
    Verdict.BY_DESIGN: "cyan",
    Verdict.IN_PART: "cyan",
    Verdict.FAILED: "bold red",
    Verdict.NOT_SHOWN: "bold yellow",
    Verdict.OPEN: "bold yellow",
}


@dataclass(frozen=True)
class Matrix:
    """Everything that was found out."""

    failures: Sequence[Shown]
    runs: Sequence[RunRow]

    @property
    def holds(self) -> bool:
        return all(verdict.is_good for verdict in self._verdicts())

    def _verdicts(self) -> list[Verdict]:
        return [*(one.verdict for one in self.failures), *(row.verdict for row in self.runs)]

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each guarantee: how many rows threaten it, and which of them did not hold."""
        found: dict[str, dict[str, Any]] = {}
        for name, meaning in GUARANTEES.items():
            failures = [one for one in self.failures if name in one.failure.guarantees]
            runs = [row for row in self.runs if name in row.guarantees]
            bad = [f"failure {one.failure.number}" for one in failures if not one.verdict.is_good]
            bad += [row.command for row in runs if not row.verdict.is_good]
            found[name] = {
                "meaning": meaning,
                "failures": len(failures),
                "runs": len(runs),
                "in_part": [
                    one.failure.number for one in failures if one.verdict is Verdict.IN_PART
                ],
                "not_held": bad,
            }
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "failures": [_failure_as_json(one) for one in self.failures],
            "runs": [asdict(row) for row in self.runs],
            "guarantees": self.summary(),
        }


def _failure_as_json(shown: Shown) -> dict[str, Any]:
    failure = shown.failure
    return {
        "number": failure.number,
        "wrong": failure.wrong,
        "guarantees": failure.guarantees,
        "tests": {name: shown.outcomes.get(name) for name in failure.node_ids},
        "remark": failure.remark,
        "limit": failure.limit,
        "verdict": shown.verdict,
    }


def console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for a file."""
    probe = Console(highlight=False)
    return probe if probe.is_terminal else Console(highlight=False, width=WIDE)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _told(verdict: Verdict) -> str:
    return f"[{STYLES[verdict]}]{verdict}[/]"


def print_catalogue(failures: Sequence[Failure], out: Console) -> None:
    """The failures and their tests, none of which has run."""
    table = _table("Failures seen at other projects", "#", "what goes wrong", "of", "shown by")
    for failure in failures:
        table.add_row(
            str(failure.number), _wrong(failure), failure.threatens, "\n".join(failure.shown_by)
        )
    out.print(table)


def print_matrix(matrix: Matrix, out: Console) -> None:
    """Whatever was run, then a line for each guarantee."""
    if matrix.failures:
        out.print(_failures(matrix.failures))
    if matrix.runs:
        out.print(_runs(matrix.runs))
    for name, found in matrix.summary().items():
        out.print(summary_line(name, found))


def _failures(failures: Sequence[Shown]) -> Table:
    heads = ("#", "what goes wrong", "of", "tests run", "here")
    table = _table("Failures seen at other projects", *heads)
    for one in failures:
        failure = one.failure
        table.add_row(
            str(failure.number),
            _wrong(failure),
            failure.threatens,
            "\n".join(_tests(one)),
            _told(one.verdict),
        )
    return table


def _wrong(failure: Failure) -> str:
    lines = [failure.wrong]
    lines += [f"[dim]({failure.remark})[/]"] if failure.remark else []
    lines += [f"[cyan](but: {failure.limit})[/]"] if failure.limit else []
    return "\n".join(lines)


def _tests(shown: Shown) -> list[str]:
    """Each test, and its outcome where that is not what was hoped for."""
    told = []
    for name, node_id in zip(shown.failure.shown_by, shown.failure.node_ids, strict=True):
        outcome = shown.outcomes.get(node_id, "not run")
        told.append(name if outcome == "passed" else f"{name} - {outcome}")
    return told


def _runs(runs: Sequence[RunRow]) -> Table:
    heads = ("python -m", "injected", "lost", "at once", "violations", "of", "here")
    table = _table("Faults on real processes", *heads)
    for row in runs:
        table.add_row(
            f"{row.command}\n[dim]({row.remark})[/]" if row.remark else row.command,
            *_figures(row),
            row.threatens,
            _told(row.verdict),
        )
    return table


def _figures(row: RunRow) -> tuple[str, str, str, str]:
    counts = row.counts
    if counts is None:
        return ("-", "-", "-", "-")
    at_once = "-" if counts.at_once is None else str(counts.at_once)
    return (str(counts.injected), str(counts.lost), at_once, str(counts.violations))


def summary_line(name: str, found: Mapping[str, Any]) -> str:
    """One guarantee in words."""
    bad = ", ".join(found["not_held"])
    held = f"[bold red]NOT HELD[/]: {bad}" if bad else "[green]all held[/]"
    in_part = ", ".join(map(str, found["in_part"]))
    limits = f"; in part: {in_part}" if in_part else ""
    rows = f"threatened by {found['failures']} failures and {found['runs']} runs"
    return f"{name} {found['meaning']}: {rows}, {held}{limits}"

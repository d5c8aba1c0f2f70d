"""The runs of faults on real processes: their commands, and what their lines of JSON say."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.boundaries.run import Row
from tests.matrix.failure import Verdict
from tests.matrix.shown import ROOT, STANDARD_ERROR

Line = Mapping[str, Any]

SIMULATED_FAULTS = (
    *("request lost", "request late", "answer lost", "answer late", "duplicate", "not sent"),
    *("server error", "error after processing", "throttled", "refresh token only"),
    *("unreadable answer", "long outages", "revoked by a person", "crashes", "usurped", "paused"),
    *("vault outages", "commit unacknowledged", "slow disk"),
    *("mood: client refused", "mood: tenant refused", "mood: wordless", "mood: incident"),
    *("said: too early", "revoke", "remove"),
    *("clock stepped ahead", "clock stepped back"),
)
"""Each once: what follows from one of them is counted there, too, by other names."""

BY_A_PERSON = ": a person"
"""Ends the name of a loss that was a revocation: nothing could have saved that grant."""


@dataclass(frozen=True)
class Counts:
    """What one line says.

    Args:
        at_once: exchanges of one grant in flight together; None where nobody looks for it.
        violations: of any other guarantee.
    """

    injected: int
    lost: int
    at_once: int | None
    violations: int
    remark: str = ""
    label: str = ""


@dataclass(frozen=True)
class Run:
    """One command, in its short and in its whole form.

    Args:
        threatens: the guarantees that its faults would break.
        may_lose: a grant that was lost is no violation if the run says so itself.
    """

    module: str
    short: str
    whole: str
    threatens: str
    read: Callable[[Line], Counts]
    may_lose: bool = False

    def arguments(self, *, whole: bool) -> list[str]:
        """What is typed after ``python -m``."""
        return [self.module, *(self.whole if whole else self.short).split()]


@dataclass(frozen=True)
class RunRow:
    """One row of the table."""

    command: str
    threatens: str
    counts: Counts | None
    """None if the command ended without saying anything."""
    seconds: float
    verdict: Verdict
    remark: str

    @property
    def guarantees(self) -> list[str]:
        return self.threatens.split()


def read_boundaries(line: Line) -> Counts:
    row = Row(**line)
    return Counts(
        injected=row.kills,
        lost=row.lost,
        at_once=None,
        violations=0 if row.holds else max(1, row.lost - row.reported),
        remark="lost as strict rotation must, and reported" if row.holds and row.lost else "",
        label=f"--profile '{row.profile}' --boundary {row.boundary}",
    )


def read_kills(line: Line) -> Counts:
    return Counts(line["kills"], line["lost"], line["overlapping"], 0)


def read_takeover(line: Line) -> Counts:
    injected = line["killed"] + line["stopped"] + line["napped"]
    violations = line["sent_by_the_woken"] + line["regressed"]
    return Counts(injected, line["lost"], line["overlapping"], violations)


def read_storm(line: Line) -> Counts:
    injected = line["throttled"] + line["rejected_requests"]
    return Counts(injected, line["lost"], None, line["hasty"] + line["misplaced"])


def read_simulation(line: Line) -> Counts:
    lost = sum(
        count
        for kind, count in line.items()
        if kind.startswith("lost ") and not kind.endswith(BY_A_PERSON)
    )
    return Counts(
        injected=sum(line.get(kind, 0) for kind in SIMULATED_FAULTS),
        lost=lost,
        at_once=0,
        violations=line["violations"],
        remark="each explained by what was injected, and reported" if lost else "",
    )


def read_chaos(line: Line) -> Counts:
    violations = line["stale_reads"] + line["expired_reads"] + line["canary_hits"]
    injected = sum(line["faults"].values())
    return Counts(injected, line["lost"], line["double_exchanges"], violations)


def read_hostile(line: Line) -> Counts:
    absent = line["honest_absent"] + line["healthy_absent"]
    return Counts(
        injected=sum(line["requests"].values()),
        lost=line["lost"],
        at_once=None,
        violations=absent if line["holds"] else max(absent, 1),
    )


RUNS = (
    Run("tests.boundaries", "--times 1", "--times 100", "G3", read_boundaries, may_lose=True),
    Run("tests.kills", "--kills 5", "--kills 50", "G2 G3", read_kills),
    Run("tests.takeover", "--times 1", "--times 20", "G2 G3 G4", read_takeover),
    Run("tests.storm", "--grants 200 --rate 40", "--grants 10000 --rate 20", "G6 G7", read_storm),
    Run(
        "tests.hostile",
        "--minutes 0.5 --json",
        "--minutes 10 --json",
        "G1 G8",
        read_hostile,
    ),
    Run(
        "tests.simulation",
        "--steps 60000",
        "--steps 1000000",
        "G2 G3 G4 G6 G7 G8",
        read_simulation,
        may_lose=True,
    ),
    Run(
        "tests.chaos",
        "--minutes 0.5 --json",
        "--minutes 10 --json",
        "G1 G2 G3 G4 G5 G7",
        read_chaos,
    ),
)


def execute(run: Run, *, whole: bool) -> list[RunRow]:
    """Run the command and read what it printed; its progress goes to standard error."""
    arguments = run.arguments(whole=whole)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=STANDARD_ERROR,
        text=True,
        check=False,
    )
    took = round(time.monotonic() - started, 1)
    return read_output(run, " ".join(arguments), done.stdout, done.returncode, took)


def read_output(run: Run, command: str, output: str, status: int, seconds: float) -> list[RunRow]:
    """A row for each line; a status that no line explains is a row of its own."""
    rows = []
    for text in output.splitlines():
        line = _parsed(text)
        if line is not None:
            rows.append(_row(run, command, line, seconds))
    unexplained = status != 0 and all(row.verdict.is_good for row in rows)
    if unexplained or not rows:
        told = f"ended with status {status}, see above" if status else "said nothing"
        rows.append(RunRow(command, run.threatens, None, seconds, Verdict.FAILED, told))
    return rows


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _row(run: Run, command: str, line: Line, seconds: float) -> RunRow:
    counts = run.read(line)
    violated = counts.violations or counts.at_once or (counts.lost and not run.may_lose)
    verdict = Verdict.HELD if counts.injected else Verdict.NOT_SHOWN
    seed = f"--seed {line['seed']}" if "seed" in line and "--seed" not in command else ""
    return RunRow(
        command=" ".join(part for part in (command, counts.label, seed) if part),
        threatens=run.threatens,
        counts=counts,
        seconds=seconds,
        verdict=Verdict.FAILED if violated else verdict,
        remark=counts.remark,
    )


def execute_all(*, whole: bool, announce: Callable[[str], None]) -> list[RunRow]:
    """Every run, one after the other: two at once would slow each other down."""
    rows: list[RunRow] = []
    for run in RUNS:
        announce(" ".join(run.arguments(whole=whole)))
        rows += execute(run, whole=whole)
    return rows

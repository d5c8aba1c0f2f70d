"""The tests of the catalogue, run once in a process of their own, and what they show."""

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.matrix.catalogue import NEEDS_ROOT, node_ids
from tests.matrix.failure import Failure, Verdict

ROOT = Path(__file__).parent.parent.parent

MANY = 10
"""Tests for which workers are worth their start."""

STANDARD_ERROR = 2
"""Its descriptor: progress is for whoever waits, standard output for the table."""


class Outcome(StrEnum):
    """What became of one test with all its parameters: the worst of them."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"


WORST_FIRST = (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED)


@dataclass(frozen=True)
class Shown:
    """A failure, and what its tests said."""

    failure: Failure
    outcomes: Mapping[str, Outcome]
    """By node id; a test that is missing has not run."""

    @property
    def verdict(self) -> Verdict:
        failure = self.failure
        if not failure.shown_by:
            return Verdict.BY_DESIGN if failure.remark else Verdict.OPEN
        found = {name: self.outcomes.get(name) for name in failure.node_ids}
        if Outcome.FAILED in found.values():
            return Verdict.FAILED
        missing = {name for name, outcome in found.items() if outcome is not Outcome.PASSED}
        if missing - NEEDS_ROOT or missing == set(found):
            return Verdict.NOT_SHOWN
        return Verdict.IN_PART if failure.limit else Verdict.HELD


def show(failures: Sequence[Failure]) -> list[Shown]:
    """Run the tests of FAILURES, each of them once."""
    outcomes = run_tests(node_ids(failures))
    return [Shown(failure, outcomes) for failure in failures]


def run_tests(names: Sequence[str]) -> dict[str, Outcome]:
    """Outcome by node id; empty if pytest could not even begin."""
    with tempfile.TemporaryDirectory(prefix="refresher-matrix-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-q", "-m", "not foreign"]
        if len(names) < MANY:
            command += ["-n", "0"]
        subprocess.run(
            [*command, f"--junitxml={report}", *names],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=STANDARD_ERROR,
            check=False,
        )
        return read_report(report.read_text()) if report.exists() else {}


def read_report(report: str) -> dict[str, Outcome]:
    """The outcomes in a JUnit REPORT, the parameters of a test taken together."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314  pytest has just written it
        module = case.get("classname", "").replace(".", "/")
        name = case.get("name", "").partition("[")[0]
        found[f"{module}.py::{name}"].append(_outcome_of(case))
    return {name: next(o for o in WORST_FIRST if o in each) for name, each in found.items()}


def _outcome_of(case: ET.Element) -> Outcome:
    if case.find("failure") is not None or case.find("error") is not None:
        return Outcome.FAILED
    return Outcome.PASSED if case.find("skipped") is None else Outcome.SKIPPED

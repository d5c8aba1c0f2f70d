"""The matrix of guarantees and faults is whole, and reads its runs as they are."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import runs, shown
from tests.matrix.catalogue import FAILURES, NEEDS_ROOT, node_ids
from tests.matrix.failure import GUARANTEES, Failure, Verdict
from tests.matrix.report import Matrix
from tests.matrix.runs import RUNS, Run, read_output
from tests.matrix.shown import Outcome, Shown, read_report
from tests.support.waiting import PATIENCE

LEFT_OUT = {"foreign", "skip", "xfail"}
"""Marks of tests that show nothing in an ordinary run."""

RUN = {run.module.removeprefix("tests."): run for run in RUNS}

KILLS = {"seed": 7, "kills": 5, "in_flight": 3, "exchanges": 95, "lost": 0, "overlapping": 0}

BOUNDARY = {
    "profile": "strict",
    "boundary": "after_send",
    "kills": 1,
    "lost": 1,
    "reported": 1,
    "slowest_ready": 1.0,
}

TAKEOVER = {
    "killed": 1,
    "stopped": 1,
    "napped": 1,
    "lost": 0,
    "overlapping": 0,
    "sent_by_the_woken": 0,
    "regressed": 0,
}
STORM = {"throttled": 5, "rejected_requests": 8, "lost": 0, "hasty": 0, "misplaced": 0}
HOSTILE = {
    "requests": {"slow": 4, "hanging": 2},
    "honest_absent": 0,
    "healthy_absent": 0,
    "lost": 0,
    "holds": True,
}
SIMULATION = {"violations": 0, "crashes": 30, "lost grace: a person": 1}
CHAOS = {
    "faults": {"redis frozen": 3},
    "lost": 0,
    "double_exchanges": 0,
    "stale_reads": 0,
    "expired_reads": 0,
    "canary_hits": 0,
}

REPORT = """<testsuites><testsuite>
<testcase classname="tests.system.test_kills" name="test_a"/>
<testcase classname="tests.test_b" name="test_b[grace(30)]"/>
<testcase classname="tests.test_b" name="test_b[a[0]]"><failure message="x"/></testcase>
<testcase classname="tests.test_b" name="test_c"><skipped/></testcase>
<testcase classname="tests.test_b" name="test_d"/>
<testcase classname="tests.test_b" name="test_d"><error message="at teardown"/></testcase>
</testsuite></testsuites>"""


def rows_of(module: str, *lines: dict[str, Any], status: int = 0) -> list[runs.RunRow]:
    output = "\n".join(map(json.dumps, lines))
    return read_output(RUN[module], f"tests.{module}", output, status, 1.0)


def failure(*tests: str, **more: Any) -> Failure:
    return Failure(1, "something goes wrong", "G1 G2", tests, **more)


def source_of(module: str) -> str:
    """The text of the package that ``python -m`` runs."""
    package = Path(str(import_module(module).__file__)).parent
    return "".join(path.read_text() for path in sorted(package.glob("*.py")))


def marks_of(place: object) -> list[Any]:
    """The marks of a test or a module; one alone need be no list."""
    marks = getattr(place, "pytestmark", [])
    return marks if isinstance(marks, list) else [marks]


def test_every_failure_has_its_number() -> None:
    assert [one.number for one in FAILURES] == list(range(1, len(FAILURES) + 1))
    assert len({one.wrong for one in FAILURES}) == len(FAILURES)


def test_every_guarantee_is_threatened() -> None:
    by_failures = {name for one in FAILURES for name in one.guarantees}
    by_runs = {name for run in RUNS for name in run.threatens.split()}
    assert by_failures == by_runs == set(GUARANTEES)


@pytest.mark.parametrize("node_id", node_ids(FAILURES))
def test_every_test_that_is_named_runs(node_id: str) -> None:
    path, _, name = node_id.partition("::")
    module = import_module(path.removesuffix(".py").replace("/", "."))
    test = getattr(module, name)
    assert LEFT_OUT.isdisjoint(mark.name for mark in [*marks_of(test), *marks_of(module)])


def test_nothing_is_open() -> None:
    """Everything that is shown at all would hold if its tests passed."""
    passed = dict.fromkeys(node_ids(FAILURES), Outcome.PASSED)
    good = {Verdict.HELD, Verdict.IN_PART, Verdict.BY_DESIGN}
    assert {Shown(one, passed).verdict for one in FAILURES} <= good
    assert set(passed) >= NEEDS_ROOT
    assert all(len(one.shown_by) <= 3 for one in FAILURES)


@pytest.mark.parametrize("run", RUNS, ids=RUN)
@pytest.mark.parametrize("whole", [False, True], ids=["short", "whole"])
def test_every_run_can_be_started(run: Run, whole: bool) -> None:  # noqa: FBT001  a parameter
    text = source_of(run.module)
    module_name, *arguments = run.arguments(whole=whole)
    assert module_name == run.module
    options = [argument for argument in arguments if argument.startswith("--")]
    assert options
    assert [option for option in options if f'"{option}"' not in text] == []


@pytest.mark.parametrize(
    ("one", "outcomes", "verdict"),
    [
        (failure("a", "b"), {"a": "passed", "b": "passed"}, Verdict.HELD),
        (failure("a", limit="x"), {"a": "passed"}, Verdict.IN_PART),
        (failure("a", "b", limit="x"), {"a": "passed", "b": "failed"}, Verdict.FAILED),
        (failure("a", "b"), {"a": "skipped", "b": "failed"}, Verdict.FAILED),
        (failure("a", "b"), {"a": "passed", "b": "skipped"}, Verdict.NOT_SHOWN),
        (failure("a", "b"), {"a": "passed"}, Verdict.NOT_SHOWN),
        (failure("a", "root"), {"a": "passed", "root": "skipped"}, Verdict.HELD),
        (failure("root"), {"root": "skipped"}, Verdict.NOT_SHOWN),
        (failure(remark="it cannot"), {}, Verdict.BY_DESIGN),
        (failure(), {}, Verdict.OPEN),
    ],
)
def test_a_failure_has_its_verdict(
    one: Failure, outcomes: dict[str, str], verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "NEEDS_ROOT", {"tests/root"})
    found = {f"tests/{name}": Outcome(outcome) for name, outcome in outcomes.items()}
    assert Shown(one, found).verdict is verdict


def test_a_report_is_read_with_parameters_together() -> None:
    assert read_report(REPORT) == {
        "tests/system/test_kills.py::test_a": Outcome.PASSED,
        "tests/test_b.py::test_b": Outcome.FAILED,
        "tests/test_b.py::test_c": Outcome.SKIPPED,
        "tests/test_b.py::test_d": Outcome.FAILED,
    }


def test_a_run_that_held_can_be_replayed() -> None:
    [row] = rows_of("kills", KILLS)
    assert (row.command, row.verdict) == ("tests.kills --seed 7", Verdict.HELD)
    assert row.counts is not None
    assert (row.counts.injected, row.counts.lost, row.counts.at_once) == (5, 0, 0)


@pytest.mark.parametrize("violated", ["lost", "overlapping"])
def test_a_violation_is_seen_whatever_the_status(violated: str) -> None:
    [row] = rows_of("kills", KILLS | {violated: 1})
    assert row.verdict is Verdict.FAILED


def test_only_a_loss_that_was_told_is_allowed() -> None:
    told, silent, forbidden = rows_of(
        "boundaries",
        BOUNDARY,
        BOUNDARY | {"reported": 0},
        BOUNDARY | {"boundary": "after_claim"},
        status=1,
    )
    assert [row.verdict for row in (told, silent, forbidden)] == [
        Verdict.HELD,
        Verdict.FAILED,
        Verdict.FAILED,
    ]
    assert told.remark
    assert told.command == "tests.boundaries --profile 'strict' --boundary after_send"


@pytest.mark.parametrize(
    ("module", "line", "injected"),
    [
        ("takeover", TAKEOVER, 3),
        ("storm", STORM, 13),
        ("hostile", HOSTILE, 6),
        ("simulation", SIMULATION, 30),
        ("chaos", CHAOS, 3),
    ],
)
def test_every_line_is_understood(module: str, line: dict[str, Any], injected: int) -> None:
    [row] = rows_of(module, line)
    assert row.verdict is Verdict.HELD
    assert row.counts is not None
    assert (row.counts.injected, row.counts.lost, row.counts.violations) == (injected, 0, 0)


@pytest.mark.parametrize(
    ("module", "line", "violated"),
    [
        *(("takeover", TAKEOVER, name) for name in ("lost", "sent_by_the_woken", "regressed")),
        *(("storm", STORM, name) for name in ("lost", "hasty", "misplaced")),
        *(("hostile", HOSTILE, name) for name in ("honest_absent", "healthy_absent", "lost")),
        ("simulation", SIMULATION, "violations"),
        *(("chaos", CHAOS, name) for name in ("double_exchanges", "expired_reads", "canary_hits")),
    ],
)
def test_every_violation_is_seen(module: str, line: dict[str, Any], violated: str) -> None:
    [row] = rows_of(module, line | {violated: 1})
    assert row.verdict is Verdict.FAILED


def test_a_run_that_says_so_itself_did_not_hold() -> None:
    [row] = rows_of("hostile", HOSTILE | {"holds": False})
    assert row.verdict is Verdict.FAILED


def test_a_run_without_a_fault_shows_nothing() -> None:
    [row] = rows_of("kills", KILLS | {"kills": 0})
    assert row.verdict is Verdict.NOT_SHOWN


def test_a_loss_that_was_explained_is_told() -> None:
    [row] = rows_of("simulation", SIMULATION | {"lost strict: its successor is not durable": 4})
    assert row.counts is not None
    assert (row.counts.lost, row.verdict) == (4, Verdict.HELD)
    assert row.remark


@pytest.mark.parametrize("lines", [(), (KILLS,)], ids=["silent", "after a good line"])
def test_a_run_that_broke_off_failed(lines: tuple[dict[str, Any], ...]) -> None:
    *_, row = rows_of("kills", *lines, status=1)
    assert (row.verdict, row.counts) == (Verdict.FAILED, None)


def test_words_between_the_lines_are_no_rows() -> None:
    output = f"a warning\n17\n{json.dumps(KILLS)}\n"
    assert len(read_output(RUN["kills"], "tests.kills", output, 0, 1.0)) == 1


def test_the_summary_names_what_did_not_hold() -> None:
    broken = Shown(failure("a"), {"tests/a": Outcome.FAILED})
    matrix = Matrix([broken], rows_of("kills", KILLS))
    assert not matrix.holds
    summary = matrix.summary()
    assert [name for name, found in summary.items() if found["not_held"]] == ["G1", "G2"]
    assert (summary["G2"]["failures"], summary["G2"]["runs"]) == (1, 1)
    assert json.loads(json.dumps(matrix.as_json()))["holds"] is False
    assert Matrix([], rows_of("kills", KILLS)).holds


def matrix_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.matrix", *arguments]
    return subprocess.run(
        command, cwd=shown.ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )


def test_the_list_runs_nothing() -> None:
    done = matrix_command("--list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout.splitlines()[-1])) == len(FAILURES)
    assert all(one.shown_by[0] in done.stdout for one in FAILURES if one.shown_by)


def test_a_failure_is_shown_not_to_happen() -> None:
    """The others are, too: their tests are those of the default run."""
    done = matrix_command("--failure", "46", "--json")
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["holds"] is True
    assert [row["number"] for row in told["failures"]] == [46]

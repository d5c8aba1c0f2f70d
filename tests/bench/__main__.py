"""The benchmark's command line: ``python -m tests.bench [--quick] [--only 1,6]``."""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from refresher import __version__
from tests.bench import (
    figure_1,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
)
from tests.bench.environments import Environments
from tests.bench.figure_10 import given
from tests.bench.ground import ROOT, NotMeasured, machine
from tests.bench.plots import draw
from tests.bench.processes import Ground
from tests.bench.report import as_json, table
from tests.bench.session import QUICK, STEPS, WHOLE, Depth, Found, Row, Session

FIGURES: dict[int, ModuleType] = {
    1: figure_1,
    2: figure_2,
    3: figure_3,
    4: figure_4,
    5: figure_5,
    6: figure_6,
    7: figure_7,
    8: figure_8,
    9: figure_9,
    10: figure_10,
}


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    quick: bool
    figures: Sequence[int]
    json: bool
    plots: Path | None
    sizes: Sequence[int] | None = None
    """Grants in the vaults of figures 5 and 7, if not those of the depth."""
    given: Path | None = None
    """What an earlier session printed with ``--json``: figure 10 reckons with it."""
    steps: Sequence[str] = STEPS
    """What figure 5 measures of each."""

    @property
    def depth(self) -> Depth:
        """How much is measured."""
        depth = replace(QUICK if self.quick else WHOLE, steps=tuple(self.steps))
        return depth if self.sizes is None else replace(depth, sizes=tuple(self.sizes))


def read_options(arguments: Sequence[str]) -> Options:
    """The options in ARGUMENTS.

    Raises:
        SystemExit: there is something else in them.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under ten minutes instead of hours")
    parser.add_argument(
        "--only",
        dest="figures",
        type=_numbers,
        default=list(FIGURES),
        metavar="1,6",
        help="these figures",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write an SVG for each figure")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="1000,100000",
        help="grants in the vaults of figures 5 and 7",
    )
    parser.add_argument(
        "--given", type=Path, metavar="FILE", help="what an earlier --json printed, for figure 10"
    )
    parser.add_argument(
        "--steps", type=_steps, default=STEPS, metavar=",".join(STEPS), help="these of figure 5"
    )
    found = parser.parse_args(arguments)
    return Options(**vars(found))


def _steps(text: str) -> list[str]:
    steps = text.split(",")
    if unknown := set(steps) - set(STEPS):
        raise argparse.ArgumentTypeError(f"there is no step {min(unknown)}")
    return steps


def _sizes(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _numbers(text: str) -> list[int]:
    numbers = _sizes(text)
    if unknown := set(numbers) - set(FIGURES):
        raise argparse.ArgumentTypeError(f"there is no figure {min(unknown)}")
    return numbers


def measure(session: Session, figure: ModuleType) -> Found:
    """What FIGURE finds, or why it finds nothing: the others are measured all the same."""
    try:
        found: Found = figure.measure(session)
    except (NotMeasured, AssertionError) as reason:
        return Found(
            [Row("", "not measured", "", str(reason))],
            {"ratio": None, "not_measured": str(reason)},
            is_broken=isinstance(reason, AssertionError),
        )
    return found


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Measure and print; the exit status is 1 if a figure broke."""
    options = read_options(arguments)
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
    try:
        environments = Environments(progress)
        python = environments.python()
    except NotMeasured as reason:
        say(f"nothing can be measured without the peers' environment: {reason}")
        return 1
    say(f"{machine()}\nrefresher {__version__} at {_commit()}; {environments.versions()}")
    if 3 in options.figures:
        say(_go(environments))
    ground = Ground(python)
    known = {} if options.given is None else given(options.given)
    session = Session(ground, environments, options.depth, progress, known)
    found: dict[int, Found] = {}
    try:
        for number in options.figures:
            figure = FIGURES[number]
            found[number] = known[number] = each = measure(session, figure)
            say(f"\nFigure {number}: {figure.TITLE}\n{table(each.rows)}")
            if options.plots is not None and each.bars:
                path = options.plots / f"figure-{number}.svg"
                draw(path, f"Figure {number}: {figure.TITLE}", each.unit, each.bars)
    finally:
        ground.close()
    say(f"\nat the end: {machine()}")
    if options.json:
        say(as_json(found))
    return int(any(each.is_broken for each in found.values()))


def _commit() -> str:
    """Which state of the code was measured."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607  whatever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "an unknown commit"


def _go(environments: Environments) -> str:
    try:
        environments.go_peer()
        return environments.go_versions()
    except NotMeasured as reason:
        return f"no Go: {reason}"


def say(text: str) -> None:
    """What the session is for."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def progress(text: str) -> None:
    """What goes on meanwhile."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    # Whoever ends the session ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())

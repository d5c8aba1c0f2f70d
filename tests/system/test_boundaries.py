"""G3 at every boundary of one refresh, on real processes."""

from pathlib import Path

import pytest

from tests.boundaries.run import PROFILES, run_boundaries
from tests.support.probed_daemon import BOUNDARIES


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short name: it holds sockets, whose paths have 107 bytes."""
    return tmp_path_factory.mktemp("kills")


def test_a_kill_at_any_boundary_loses_nothing_under_grace(folder: Path) -> None:
    rows = run_boundaries(folder, ["grace(30)"], BOUNDARIES, times=1)
    assert [row for row in rows if row.lost or not row.holds] == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_kills_at_each_boundary_hold_the_promises(folder: Path) -> None:
    rows = run_boundaries(folder, list(PROFILES), BOUNDARIES, times=3)
    assert [row for row in rows if not row.holds] == []

"""The parts of figures 7 and 10: a quota, a database, what is reckoned; and one tiny round."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.domain.schedule import refresh_at
from tests.bench import ground as bench_ground
from tests.bench import replicas as bench_replicas
from tests.bench.database import Database
from tests.bench.figure_10 import Costs, given, mean_interval, need
from tests.bench.ground import NotMeasured, cpu_seconds
from tests.bench.processes import Ground
from tests.bench.quota import Quota
from tests.bench.replicas import replicas
from tests.bench.report import as_json
from tests.bench.session import Found

SIZES = {
    "1000": {"vault_bytes_a_grant": 9_000.0, "idle": {}, "busy": {}},
    "20000": {
        "vault_bytes_a_grant": 2_000.0,
        "idle": {
            "redis_bytes_a_grant": 1_500.0,
            "publishing_us_a_grant": 60.0,
            "most_mib": 100.0,
            "is_settled": True,
        },
        "busy": {"most_mib": 120.0},
    },
}
FIGURE_7 = {
    "postgresql_sqlite": {"ratio": 0.7, "cpu_us": 700.0, "database_us": 300.0, "log_bytes": 5_000},
    "two_one": {"ratio": 1.9, "cpu_us": 800.0, "database_us": 350.0, "log_bytes": 5_100},
    "sizes": SIZES,
}


@pytest.fixture
def ground() -> Iterator[Ground]:
    ground = Ground(Path(sys.executable), in_flight=8)
    yield ground
    ground.close()


def test_a_quota_holds_a_process_to_its_part_of_a_core() -> None:
    try:
        with Quota(0.25).group("test") as group:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                group.take(busy.pid)
                spent, began = cpu_seconds(busy.pid), time.monotonic()
                time.sleep(1.0)
                seconds, passed = cpu_seconds(busy.pid) - spent, time.monotonic() - began
            finally:
                busy.kill()
                busy.wait()
    except NotMeasured as reason:
        pytest.skip(str(reason))
    assert 0 < seconds <= 0.25 * passed + 0.1


@pytest.mark.parametrize("version", [1, 2])
def test_a_quota_is_written_as_each_version_of_control_groups_has_it(
    tmp_path: Path, version: int
) -> None:
    (tmp_path / ("cpu.cfs_quota_us" if version == 1 else "cgroup.controllers")).touch()
    quota = Quota(0.25, version_1=tmp_path, version_2=tmp_path)
    with quota.group("a") as group:
        group.take(os.getpid())
        [folder] = [one for one in tmp_path.iterdir() if one.is_dir()]
        written = {one.name: one.read_text() for one in folder.iterdir()}
        for one in folder.iterdir():
            one.unlink()  # the system's own go with their folder
    told = {"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": "5000"}
    expected = told if version == 1 else {"cpu.max": "5000 20000"}
    assert written == {**expected, "cgroup.procs": str(os.getpid())}
    assert not folder.exists()


def test_where_no_quota_can_be_had_the_reason_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(NotMeasured, match="no control group of this machine"),
        Quota(0.25, version_1=tmp_path, version_2=tmp_path).group("a"),
    ):
        pytest.fail("there is none")


def test_millions_are_reckoned_from_what_was_measured() -> None:
    costs = Costs.of(FIGURE_7)
    assert (costs.daemon_us, costs.database_us, costs.size) == (800.0, 350.0, 20_000)
    assert refresh_at(0.0, 3_600.0, 0.9) < mean_interval() < refresh_at(0.0, 3_600.0, 0.1)
    needs = need(10_000_000, costs)
    assert needs.per_second == pytest.approx(10_000_000 / mean_interval())
    assert needs.daemon_cores == pytest.approx(needs.per_second * 800e-6)
    assert needs.daemon_cores <= needs.replicas * 0.7 < needs.daemon_cores + 0.7
    assert needs.memory_gib == pytest.approx(needs.replicas * 120 / 1024)
    assert needs.disk_gib == pytest.approx(20e9 / 2**30)
    assert need(1_000, costs).replicas == 1


def test_without_the_ratio_of_two_the_one_daemon_counts(tmp_path: Path) -> None:
    alone = {**FIGURE_7, "two_one": {"ratio": None, "not_measured": "no quota"}}
    (tmp_path / "printed").write_text(f"a table\n{as_json({7: Found([], alone)})}\n")
    assert Costs.of(given(tmp_path / "printed")[7].data).daemon_us == 700.0
    with pytest.raises(NotMeasured, match="sizes"):
        Costs.of({"ratio": None, "not_measured": "no PostgreSQL"})


def test_one_tiny_round_of_two_daemons(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both refresh from one vault; the endpoint finds no token wrong."""
    monkeypatch.setattr(bench_ground, "LEAD", 6.0)
    monkeypatch.setattr(bench_replicas, "KNOWN_AFTER", 3.5)
    with Database.started() as database:
        found = replicas(ground, database, 200, [None, None])
        assert "fsync on" in database.told()
    assert 0 < found.answers <= 180
    assert found.database_us > 0
    assert found.log_bytes_each > 0

"""PostgreSQL: one daemon against one whose vault is a file, two against one, and many grants.

What a refresh costs a daemon does not tell what it costs the database beside it: the table
names both. Two daemons have one core, of which each may use a quarter; PostgreSQL, Redis and the
token endpoint have the other.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

from tests.bench import ratios
from tests.bench.contenders import pipeline
from tests.bench.database import Database
from tests.bench.figure_7_sizes import measured, rows_of
from tests.bench.ground import NotMeasured, Window, alternate, ratio
from tests.bench.quota import Group, Quota
from tests.bench.replicas import Shared, replicas
from tests.bench.report import table
from tests.bench.session import Bar, Found, Row, Session

TITLE = "replicas on PostgreSQL"

ON_A_FILE = 0.6
TWO_FOR_ONE = 1.7

QUARTER = 0.25
"""Of a core, for each of the daemons that are compared in number."""

Data = dict[str, Any]


def measure(session: Session) -> Found:
    """Both ratios, and every size of the depth."""
    rows: list[Row] = []
    data: Data = {}
    with Database.started() as database:
        session.progress(database.told())
        for part in (_against_a_file, _two_for_one):
            some, found = part(session, database)
            rows += some
            data |= found
            session.progress(table(some))
        data["sizes"] = {}
        for size in session.depth.sizes:
            found = data["sizes"][str(size)] = measured(session, database, size)
            rows += (some := rows_of(size, found))
            session.progress(table(some))
    names = {"postgresql_sqlite": ON_A_FILE, "two_one": TWO_FOR_ONE}
    bars = [Bar(name, data[name]["ratio"] or 0.0, goal) for name, goal in names.items()]
    return Found(rows, data, bars, "ratio, more is faster")


def _against_a_file(session: Session, database: Database) -> tuple[list[Row], Data]:
    """What a refresh costs a daemon on a file, divided by what it costs on PostgreSQL."""
    ground, grants = session.ground, session.depth.grants
    shared: list[Shared] = []
    windows = alternate(
        {
            "SQLite": partial(pipeline, ground, grants),
            "PostgreSQL": partial(
                _kept, shared, lambda: replicas(ground, database, grants, [None])
            ),
        },
        session.depth.shared_rounds,
        session.progress,
    )
    found = ratio(windows["PostgreSQL"], windows["SQLite"])
    beside, log = _beside(shared)
    row = Row(
        "one daemon, PostgreSQL / SQLite",
        f"{found.by_cpu:.3f} ± {found.spread:.3f}",
        f">= {ON_A_FILE:g}",
        f"CPU {found.ours_us:.0f} against {found.theirs_us:.0f} us; by wall {found.by_wall:.3f}; "
        f"{found.rounds} rounds; PostgreSQL's own processes take {beside:.0f} us, "
        f"and {log:.0f} bytes of its log",
    )
    told = ratios.data(found) | {"database_us": round(beside, 1), "log_bytes": round(log)}
    return [row], {"postgresql_sqlite": told}


def _two_for_one(session: Session, database: Database) -> tuple[list[Row], Data]:
    """How many times as fast two daemons are as one; each has a quarter of a core."""
    try:
        return _compared(session, database)
    except NotMeasured as reason:
        what = Row("two daemons / one", "not measured", f">= {TWO_FOR_ONE:g}", str(reason))
        return [what], {"two_one": {"ratio": None, "not_measured": str(reason)}}


def _compared(session: Session, database: Database) -> tuple[list[Row], Data]:
    ground, grants = session.ground, 2 * session.depth.grants
    shared: dict[str, list[Shared]] = {"one": [], "two": []}
    with ExitStack() as stack:
        quota = Quota(QUARTER)
        groups = [stack.enter_context(quota.group(name)) for name in ("a", "b")]

        def run(name: str, some: Sequence[Group]) -> Window:
            return _kept(shared[name], lambda: replicas(ground, database, grants, some))

        windows = alternate(
            {"one": partial(run, "one", groups[:1]), "two": partial(run, "two", groups)},
            session.depth.shared_rounds,
            session.progress,
        )
    one, two = windows["one"], windows["two"]
    by_wall = _median(two, "per_second") / _median(one, "per_second")
    by_cpu = 2 * _median(one, "cpu_us") / _median(two, "cpu_us")
    used = [median(each.cpu / each.wall for each in some) for some in (one, two)]
    (beside_one, _), (beside_two, log) = _beside(shared["one"]), _beside(shared["two"])
    row = Row(
        "two daemons / one, by wall",
        f"{by_wall:.2f}",
        f">= {TWO_FOR_ONE:g}",
        f"{_median(two, 'per_second'):.0f} against {_median(one, 'per_second'):.0f}/s with "
        f"{used[1]:.2f} and {used[0]:.2f} of a core; by what a refresh costs them {by_cpu:.2f} "
        f"({_median(two, 'cpu_us'):.0f} against {_median(one, 'cpu_us'):.0f} us); PostgreSQL's own "
        f"processes take {beside_two:.0f} against {beside_one:.0f} us",
    )
    told = {
        "ratio": round(by_wall, 3),
        "by_cpu": round(by_cpu, 3),
        "cpu_us": round(_median(two, "cpu_us"), 1),
        "cpu_us_alone": round(_median(one, "cpu_us"), 1),
        "database_us": round(beside_two, 1),
        "log_bytes": round(log),
        "cores_used": round(used[1], 3),
        "rounds": len(one),
    }
    return [row], {"two_one": told}


def _kept(shared: list[Shared], run: Callable[[], Shared]) -> Shared:
    """What RUN finds, which is added to SHARED."""
    shared.append(found := run())
    return found


def _median(windows: Sequence[Window], what: str) -> float:
    return float(median(getattr(window, what) for window in windows))


def _beside(shared: Sequence[Shared]) -> tuple[float, float]:
    """CPU microseconds and bytes of its log that a refresh costs the database."""
    return median(one.database_us for one in shared), median(one.log_bytes_each for one in shared)

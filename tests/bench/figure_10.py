"""What 10 and 100 million grants need: figure 7, reckoned up.

Nothing is measured here. What figure 7 has found in the same session, or in an earlier one whose
last line is given, is multiplied by so many grants whose tokens live an hour. How much each
further daemon brings is known of the second one alone; of the others it is supposed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from refresher.domain.schedule import refresh_at
from tests.bench import figure_7
from tests.bench.ground import NotMeasured
from tests.bench.session import Found, Row, Session

TITLE = "what millions of grants need whose tokens live an hour, from figure 7"

MILLION = 1_000_000

MILLIONS = (1, 10, 100)

LIFETIME = 3_600.0
"""Seconds that the tokens live."""

FULL = 0.7
"""Part of a core that may be busy all the time: the rest is for what comes at once."""

DRAWS = 1_000

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Costs:
    """What figure 7 has found."""

    daemon_us: float
    """CPU of a daemon for a refresh, beside another one where that was measured."""
    database_us: float
    log_bytes: float
    vault_bytes: float
    """Of the database's disk, for a grant."""
    redis_bytes: float
    """Of Redis' memory, for a grant."""
    publishing_us: float
    """CPU of a daemon for each token of a Redis that was empty."""
    replica_mib: float
    size: int
    """Grants in the vault of which the bytes and the memory were taken."""

    @classmethod
    def of(cls, found: Data) -> "Costs":
        """What the figure's FOUND says.

        Raises:
            NotMeasured: it does not say enough.
        """
        try:
            size = max(map(int, found["sizes"]))
            of_size = found["sizes"][str(size)]
            if not of_size["idle"]["is_settled"]:
                raise NotMeasured(f"figure 7 did not wait until Redis had {size:,} tokens")
            ratio, many = found["postgresql_sqlite"], found["two_one"]
            refresh = ratio if many["ratio"] is None else many
            return cls(
                daemon_us=max(ratio["cpu_us"], refresh["cpu_us"]),
                database_us=max(ratio["database_us"], refresh["database_us"]),
                log_bytes=max(ratio["log_bytes"], refresh["log_bytes"]),
                vault_bytes=of_size["vault_bytes_a_grant"],
                redis_bytes=of_size["idle"]["redis_bytes_a_grant"],
                publishing_us=of_size["idle"]["publishing_us_a_grant"],
                replica_mib=max(of_size[part]["most_mib"] for part in ("idle", "busy")),
                size=size,
            )
        except (KeyError, ValueError) as error:
            raise NotMeasured(f"figure 7 does not say: {error}") from error


@dataclass(frozen=True)
class Need:
    """What so many grants need, all the time."""

    per_second: float
    """Refreshes."""
    daemon_cores: float
    replicas: int
    """Each has the core that its interpreter can use, and keeps some of it free."""
    memory_gib: float
    """Of all replicas."""
    database_cores: int
    disk_gib: float
    log_mib_per_second: float
    redis_gib: float
    rebuild_minutes: float
    """Until an empty Redis has everything, all replicas at once and doing nothing else."""


def need(grants: int, costs: Costs) -> Need:
    """What GRANTS need at COSTS."""
    per_second = grants / mean_interval()
    daemons = per_second * costs.daemon_us / 1e6
    replicas = max(1, math.ceil(daemons / FULL))
    return Need(
        per_second=per_second,
        daemon_cores=daemons,
        replicas=replicas,
        memory_gib=replicas * costs.replica_mib / 1024,
        database_cores=max(1, math.ceil(per_second * costs.database_us / 1e6 / FULL)),
        disk_gib=grants * costs.vault_bytes / 2**30,
        log_mib_per_second=per_second * costs.log_bytes / 2**20,
        redis_gib=grants * costs.redis_bytes / 2**30,
        rebuild_minutes=grants * costs.publishing_us / 1e6 / 60,
    )


def mean_interval() -> float:
    """Seconds from one refresh of a grant to its next on the average, by the real schedule."""
    draws = [place / DRAWS for place in range(DRAWS)]
    return fmean(refresh_at(0.0, LIFETIME, draw) for draw in draws)


def measure(session: Session) -> Found:
    """Reckon up what was measured before, or given, or is measured now for want of both."""
    known = session.found.get(7)
    costs = Costs.of((known or figure_7.measure(session)).data)
    rows, data = [], {}
    for millions in MILLIONS:
        needs = need(millions * MILLION, costs)
        rows.append(row(millions, needs))
        data[str(millions)] = asdict(needs)
    source = Row(
        "from",
        "",
        "",
        f"{costs.daemon_us:.0f} us of a daemon and {costs.database_us:.0f} us of PostgreSQL a "
        f"refresh, at most {FULL:.0%} of a core; bytes and memory as with {costs.size:,} grants",
    )
    return Found([*rows, source], {"millions": data, "costs": asdict(costs)})


def row(millions: int, needs: Need) -> Row:
    """The line of the table."""
    return Row(
        f"{millions:,} million",
        f"{needs.replicas} replicas",
        "",
        f"{needs.per_second:,.0f} refreshes/s; daemons: {needs.daemon_cores:.1f} cores busy, "
        f"{needs.memory_gib:.1f} GiB; PostgreSQL: {needs.database_cores} cores, "
        f"{needs.disk_gib:,.0f} GiB of disk, {needs.log_mib_per_second:.1f} MiB/s of log; Redis: "
        f"{needs.redis_gib:,.0f} GiB, filled anew by one replica in {needs.rebuild_minutes:,.0f} "
        "minutes of CPU",
    )


def given(path: Path) -> dict[int, Found]:
    """The figures that an earlier session has printed with ``--json`` to PATH.

    Raises:
        ValueError: its last line is none of that.
    """
    last = path.read_text().strip().rpartition("\n")[2]
    figures = json.loads(last)["figures"]
    return {int(number): Found([], data) for number, data in figures.items()}

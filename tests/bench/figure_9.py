"""Seconds until every current token can be read after a master lost its place.

Not a ratio and nothing of peers: ``python -m tests.failover`` prints the same and needs none.
"""

from typing import Any

from tests.bench.session import Bar, Found, Row, Session
from tests.failover.run import EVENTS

TITLE = "seconds until every current token is readable at the new master"

GOAL = 5.0
"""Seconds from an event with 10,000 grants."""


def measure(session: Session) -> Found:
    """Every event, for every size of the depth."""
    rows: list[Row] = []
    data: dict[str, Any] = {}
    bars: list[Bar] = []
    is_broken = False
    for size in session.depth.published:
        for event, run in EVENTS.items():
            session.progress(f"{size} grants: {event}")
            found = run(session.ground, size)
            is_broken |= not found.is_well
            rows.append(
                Row(
                    f"{event}, {size} grants",
                    f"{found.after_event:.2f} s",
                    f"<= {GOAL:g} s, 0 regressions",
                    f"{found.after_naming:.2f} s after it was named; {found.missing} were missing, "
                    f"{found.regressions} regressions, {found.absent} absent",
                )
            )
            bars.append(Bar(f"{event}, {size}", found.after_event, GOAL))
            data.setdefault(str(size), {})[event] = {
                "seconds": round(found.after_event, 3),
                "after_naming": round(found.after_naming, 3),
                "missing": found.missing,
                "regressions": found.regressions,
                "absent": found.absent,
            }
    return Found(rows, data, bars, "seconds from the event", is_broken=is_broken)

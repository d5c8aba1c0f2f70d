"""What three replicas send to a server that limits them, and what they keep by its quota.

Not a ratio and nothing of peers: ``python -m tests.limits`` prints the same and needs none.
"""

from dataclasses import asdict

from tests.bench.session import QUICK, Bar, Found, Row, Session
from tests.limits import run
from tests.limits.run import DAY, LIFE, Measured

TITLE = "three replicas under the limits of one server"

RATE = 60.0
"""Requests a second."""

SAID = {
    "known": f"rate = {RATE:g} in the settings, all due at once",
    "after downtime": "the same, after a time without a daemon",
    "learned": f"a rate of {RATE:g} that nobody has told",
    "quota": f"a day of {DAY:g} s, tokens of {LIFE:g} s",
}


def measure(session: Session) -> Found:
    """Every limit."""
    is_quick = session.depth is QUICK
    session.progress("three replicas at a server that limits them")
    found = run.measure(600 if is_quick else 1_200, RATE, 100 if is_quick else 400)
    rows = [_row(part, one) for part, one in found.items()]
    bars = [Bar(SAID[part], one.sent / one.allowed, 1.0) for part, one in found.items()]
    data = {part: asdict(one) for part, one in found.items()}
    return Found(rows, data, bars, "sent / allowed", is_broken=not run.is_well(found))


def _row(part: str, one: Measured) -> Row:
    goal = "<= 1" if part == "learned" else "<= 1, 0 refused"
    shares = ", ".join(f"{name} {count}" for name, count in one.by_replica.items())
    more = f"{one.refused} refused; {shares}; {one.fullest_second} in the fullest second"
    if part == "quota":
        more += f"; {one.unreadable} tokens could not be read"
    return Row(SAID[part], f"sent / allowed {one.sent / one.allowed:.2f}", goal, more)

"""What the night is told as."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from tests.night.run import Night, Trouble

WELL_AGAIN = (
    "endpoint.resumed",
    "incident.closed",
    "vault.recovered",
    "redis.connected",
    "grant.recovered",
    "client.recovered",
)

STATUS_LINES = 8


def report(night: Night) -> tuple[str, bool]:
    """The report, and whether all is as it should be."""
    faults = list(_faults(night))
    lines = [line for trouble in night.troubles for line in _told(trouble)]
    lines += [*_mended(night), *(f"NOT AS IT SHOULD BE: {fault}" for fault in faults)]
    return "\n".join(lines) + "\n", not faults


def _told(trouble: Trouble) -> Iterator[str]:
    yield f"== {trouble.name}, for {trouble.lasts / 60:g} min"
    yield "alerts that fired:"
    for name, (after, summary) in sorted(trouble.fired.items(), key=lambda each: each[1]):
        yield f"  {after:5.0f} s  {name}: {summary}"
    yield from _notified(trouble.told)
    yield "the log, warnings and errors:"
    counts = Counter((line["level"], line["event"]) for line in trouble.lines)
    for (level, event), count in sorted(counts.items()):
        first = next(line for line in trouble.lines if line["event"] == event)
        yield f"  {count:5}  {level:8} {event}: {first.get('repair') or first.get('reason', '')}"
    yield "status at its end:"
    yield from (f"  | {line}" for line in islice(trouble.status.splitlines(), STATUS_LINES))
    yield ""


def _notified(told: list[dict[str, Any]]) -> Iterator[str]:
    yield "notifications sent:"
    yield from (f"  {message['type']}: {message['text']}" for message in told)


def _mended(night: Night) -> Iterator[str]:
    yield "== what mended itself"
    if night.mended_after is not None:
        yield f"  every token could be used again {night.mended_after:.0f} s after the last trouble"
    for event in WELL_AGAIN:
        if lines := night.daemon.events(event):
            yield f"  {len(lines):5}  {event}"
    yield from _notified(night.told_after)
    yield f"  longest time in which a consumer had no token: {night.gap:.0f} s"
    for name, count in night.counts.items():
        yield f"  {name}: {count}"


def _faults(night: Night) -> Iterator[str]:
    if night.alerted_in_calm:
        yield f"alarmed while all was well: {sorted(night.alerted_in_calm)}"
    for trouble in night.troubles:
        if missing := trouble.expected - trouble.fired.keys():
            yield f"while {trouble.name}, nobody was alarmed by {sorted(missing)}"
        if unheard := trouble.to_be_told - {message["type"] for message in trouble.told}:
            yield f"while {trouble.name}, nobody was told {sorted(unheard)}"
    if night.mended_after is None:
        yield "not everything mended itself"
    if "incident.closed" not in {message["type"] for message in night.told_after}:
        yield "nobody was told that the incident is over"
    for name, count in night.counts.items():
        if count:
            yield f"{name}: {count}"

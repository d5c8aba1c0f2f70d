"""What happens at once to many grants is one message.

Events of one kind and client join a burst until none has come for a while. No value of an
event is taken but those named here, none of which holds a token.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from refresher.clock import Clock
from refresher.domain.grants import GrantState
from refresher.domain.notifications import Kind
from refresher.logs import Event
from refresher.text import plain
from refresher.times import written

QUIET, LONGEST = 5.0, 60.0
"""Seconds without another event after which a burst is over, and seconds it lasts at most."""

NAMES = 10
"""Grants that a message names."""

KINDS = {
    Event.GRANT_LOST: Kind.GRANT_LOST,
    Event.GRANT_RECOVERED: Kind.GRANT_RECOVERED,
    Event.GRANT_ENDING: Kind.GRANT_ENDING,
    Event.INCIDENT_OPENED: Kind.INCIDENT_OPENED,
    Event.INCIDENT_CLOSED: Kind.INCIDENT_CLOSED,
    Event.CLIENT_REJECTED: Kind.CLIENT_REJECTED,
    Event.VAULT_REFUSED: Kind.VAULT_REFUSED,
}


@dataclass(slots=True, eq=False)
class Burst:
    """Events of one kind and client, so far."""

    kind: Kind
    began_at: float
    """Unix seconds."""
    first: Mapping[str, Any]
    """The fields of its first event."""
    closes_at: float
    """Monotonic."""
    latest: float
    """When it closes at the latest; monotonic."""
    count: int = 0
    names: list[str] = field(default_factory=list)
    is_changed: bool = True
    kept: dict[int, int] = field(default_factory=dict)
    """Under which ids its messages are kept, by target."""


class Bursts:
    """Collects events from whatever thread they happen in."""

    def __init__(self, clock: Clock, *, quiet: float = QUIET, longest: float = LONGEST) -> None:
        self._clock, self._quiet, self._longest = clock, quiet, longest
        self._lock = threading.Lock()
        self._open: dict[tuple[Any, ...], Burst] = {}

    def hear(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Take EVENT, if it is one that people are told of."""
        kind = KINDS.get(event)
        if kind is None or not _is_news(kind, fields):
            return
        key = (kind, fields.get("client"), fields.get("days"))
        now = self._clock.monotonic()
        with self._lock:
            burst = self._open.get(key)
            if burst is None or burst.closes_at <= now:
                latest = now + self._longest
                burst = Burst(kind, self._clock.now(), dict(fields), latest, latest)
                self._open[key] = burst
            burst.closes_at = min(now + self._quiet, burst.latest)
            burst.count += 1
            burst.is_changed = True
            name = fields.get("grant")
            if name is not None and len(burst.names) < NAMES and name not in burst.names:
                burst.names.append(str(name))

    def take_changed(self) -> list[tuple[Burst, float, str]]:
        """Bursts that have grown since the last time: seconds until each closes, and its message.

        Those that are closed are forgotten.
        """
        now = self._clock.monotonic()
        with self._lock:
            taken = [
                (burst, max(burst.closes_at - now, 0.0), message(burst))
                for burst in self._open.values()
                if burst.is_changed
            ]
            for burst, *_ in taken:
                burst.is_changed = False
            self._open = {key: each for key, each in self._open.items() if each.closes_at > now}
        return taken


def _is_news(kind: Kind, fields: Mapping[str, Any]) -> bool:
    match kind:
        case Kind.GRANT_RECOVERED:  # nobody was told of anything else
            return fields.get("was") == GrantState.REAUTHORIZATION_REQUIRED.value
        case Kind.GRANT_ENDING:  # a login without a refresh token has told its person itself
            return fields.get("days") is not None
        case _:
            return True


def message(burst: Burst) -> str:
    """What is sent of BURST: one JSON object, as Standard Webhooks has it, with a sentence."""
    first, client = burst.first, burst.first.get("client")
    count = first["count"] if isinstance(first.get("count"), int) else burst.count
    ends_at = first.get("expires_at") if burst.kind is Kind.GRANT_ENDING else None
    data = {
        "client": client,
        "count": count,
        "grants": burst.names or None,
        "reason": first.get("reason") or first.get("error_code"),
        "days": first.get("days"),
        "ends_at": None if ends_at is None else written(ends_at),
        "repair": _repair(burst),
    }
    data = {name: _plain(value) for name, value in data.items() if value is not None}
    said = plain(_sentence(burst, count))
    return composed(burst.kind.value, burst.began_at, said, data)


def composed(kind: str, at: float, text: str, data: Mapping[str, Any]) -> str:
    """A message of the type KIND about what happened AT, a unix time."""
    fields = {"type": kind, "timestamp": written(at), "text": text, "data": data}
    return json.dumps(fields, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


def _sentence(burst: Burst, count: int) -> str:
    said = _said(burst, count) + _named(burst, count)
    repair = _repair(burst)
    return said if repair is None else f"{said}: {repair}"


def _said(burst: Burst, count: int) -> str:
    first = burst.first
    client, reason = first.get("client"), first.get("reason")
    why = f" ({reason})" if reason else ""
    of_client = f" of client {client}" if client else ""
    is_one = count == 1 and bool(burst.names)
    who = f"grant {burst.names[0]}{of_client}" if is_one else f"{count} grants{of_client}"
    match burst.kind:
        case Kind.GRANT_LOST:
            return f"{who} {'needs' if is_one else 'need'} a person{why}"
        case Kind.GRANT_RECOVERED:
            return f"{who} {'is' if is_one else 'are'} fresh again"
        case Kind.GRANT_ENDING:
            days = f"{first['days']} day{'' if first['days'] == 1 else 's'}"
            return f"the refresh token{'' if is_one else 's'} of {who} will end within {days}"
        case Kind.INCIDENT_OPENED:
            return f"the server refuses {count} grants{of_client} that it served before"
        case Kind.INCIDENT_CLOSED:
            return f"none of the {count} grants{of_client} that were refused is doubted any more"
        case Kind.CLIENT_REJECTED:
            return f"the server refuses client {client} itself ({first.get('error_code')})"
        case Kind.VAULT_REFUSED:
            return f"the vault cannot be written, and nothing is sent{why}"
        case _:
            assert_never(burst.kind)


def _named(burst: Burst, count: int) -> str:
    """Some of the grants, where they are several."""
    if count == 1 or not burst.names:
        return ""
    more = count - len(burst.names)
    return f", {', '.join(burst.names)}" + (f" and {more} more" if more > 0 else "")


def _repair(burst: Burst) -> str | None:
    """What mends it; of several grants how to list them, and what mends the first."""
    repair, client = burst.first.get("repair"), burst.first.get("client")
    match burst.kind:
        case Kind.GRANT_RECOVERED | Kind.INCIDENT_CLOSED:
            return None
        case Kind.GRANT_LOST | Kind.GRANT_ENDING if burst.count > 1 and client:
            return f"refresher status --client {client} lists them; the first: {repair}"
        case _:
            return None if repair is None else str(repair)

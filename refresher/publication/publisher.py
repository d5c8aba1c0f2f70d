"""Writes publications: one atomic newer-version-wins script for each key, many at a time.

The order within a batch is: tokens first, because consumers wait for them; then the
events that are news; then the statuses. A status is what remembers that its events were
written, so a crash in between repeats an event and never loses one.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from refresher.clock import Clock
from refresher.domain.grants import Publication
from refresher.publication import records, server_clock
from refresher.publication.connection import Command, Server
from refresher.publication.doubts import Doubts
from refresher.publication.faults import unavailable
from refresher.publication.keys import EVENTS_LENGTH, Keys
from refresher.publication.records import EventKind, Fields
from refresher.publication.server_clock import Offset, Steps

BATCH = 64
"""Publications in one round trip; above 128 nothing is gained."""

SCRIPT = resources.files("refresher.publication").joinpath("publish.lua").read_text("utf-8")
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

REMEMBERED = ("revision", "version", "state", "reason", "request", "request_until")
"""Fields of the last status that tell which events are news."""

ANSWER = ("request", "request_until")
"""Those of them that answer consumers."""


class Outcome(StrEnum):
    """What became of one hash."""

    WRITTEN = "written"
    """It was absent, older, or higher and foreign; a token was announced."""
    REWRITTEN = "rewritten"
    """The same version was there; nothing was announced."""
    REFUSED = "refused"
    """A higher version is there."""
    LATE = "late"
    """The token ended before it could be written."""
    REMOVED = "removed"
    ABSENT = "absent"
    """There was nothing to remove."""


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What became of a batch, by name of the grant."""

    tokens: Mapping[str, Outcome] = field(default_factory=dict)
    statuses: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def refused(self) -> set[str]:
        """Grants of which Redis holds something newer than what was sent."""
        return {
            name
            for outcomes in (self.tokens, self.statuses)
            for name, outcome in outcomes.items()
            if outcome is Outcome.REFUSED
        }


class Publisher:
    """Publishes to one Redis under one prefix.

    Args:
        server: is not closed here.
        clock: whose ``now`` is the one that ``expires_at`` is measured by.
    """

    def __init__(self, *, server: Server, keys: Keys, clock: Clock) -> None:
        self.server = server
        self.keys = keys
        self._clock = clock
        self._steps = Steps(clock)
        self._offset: Offset | None = None
        self._doubts = Doubts()

    async def connect(self) -> None:
        """Load the script, measure the clocks, look for settings that lose keys.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        await self.server.execute("SCRIPT", "LOAD", SCRIPT)
        await self.check_server()

    async def check_server(self) -> None:
        """Measure the clocks again and read INFO; warn once of what may lose keys.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        offset = await self.measure_clock()
        await self._doubts.examine(self.server, offset)

    async def measure_clock(self) -> Offset:
        """How far Redis' clock is from ours, from now on.

        Raises:
            PublicationUnavailable: when Redis cannot be asked.
        """
        self._offset = await server_clock.measure(self.server, self._clock)
        return self._offset

    async def publish(
        self,
        batch: Sequence[Publication],
        *,
        now: float,
        force: Collection[str] = (),
        spared: Collection[str] = (),
    ) -> PublishReport:
        """Bring Redis to what BATCH says, as far as BATCH is newer.

        Args:
            now: when BATCH was read from the vault: time that passes until Redis executes
                is subtracted from the life of the tokens.
            force: names whose higher version in Redis is overwritten, the vault having
                been read after Redis.
            spared: names of which only the status is ever forced.

        Raises:
            PublicationUnavailable: any part of BATCH may have been written, or may be yet.
        """
        tokens: dict[str, Outcome] = {}
        statuses: dict[str, Outcome] = {}
        forced = set(force).difference(spared)
        if self._steps.was_stepped():
            self._offset = None  # it would tell Redis a wrong time of sending
        offset = self._offset or await self.measure_clock()
        for start in range(0, len(batch), BATCH):
            part = batch[start : start + BATCH]
            sent_at = offset.sent_at(now)
            written, remembered = await self._send_tokens(part, now, sent_at, forced)
            if self._late_without_reason(part, written):
                offset = await self.measure_clock()
                sent_at = offset.sent_at(now)
                written, remembered = await self._send_tokens(part, now, sent_at, forced)
            tokens |= written
            statuses |= await self._send_statuses(part, written, remembered, force)
        return PublishReport(tokens, statuses)

    async def remove(self, names: Sequence[str]) -> None:
        """Delete token and status of NAMES, which the vault does not know.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        commands = [
            ("DEL", key(name)) for name in names for key in (self.keys.token, self.keys.status)
        ]
        await self._run(commands)

    async def _send_tokens(
        self, part: Sequence[Publication], now: float, sent_at: int, force: Collection[str]
    ) -> tuple[dict[str, Outcome], dict[str, Fields]]:
        """Write the token keys and read what the statuses remember."""
        commands: list[Command] = []
        for publication in part:
            name = publication.grant.name
            commands += [
                self._token_command(publication, now, sent_at, name in force),
                ("HMGET", self.keys.status(name), *REMEMBERED),
            ]
        replies = await self._run(commands)
        names = [publication.grant.name for publication in part]
        return (
            dict(zip(names, map(_outcome, replies[::2]), strict=True)),
            dict(zip(names, map(_remembered, replies[1::2]), strict=True)),
        )

    async def _send_statuses(
        self,
        part: Sequence[Publication],
        written: Mapping[str, Outcome],
        remembered: Mapping[str, Fields],
        force: Collection[str],
    ) -> dict[str, Outcome]:
        """Write the events that are news, then the statuses that remember them."""
        commands: list[Command] = []
        for publication in part:
            name = publication.grant.name
            for kind in _news(publication, written[name], remembered[name]):
                entry = records.event_fields(kind, publication)
                commands.append(
                    ("XADD", self.keys.events, "MAXLEN", "~", EVENTS_LENGTH, "*", *_flat(entry))
                )
            if _has_just_gone(publication, written[name], remembered[name]):
                message = records.gone_message(publication)
                commands.append(("PUBLISH", self.keys.token(name), message))
        events = len(commands)
        commands += [self._status_command(one, one.grant.name in force) for one in part]
        replies = await self._run(commands)
        names = [publication.grant.name for publication in part]
        return dict(zip(names, map(_outcome, replies[events:]), strict=True))

    def _token_command(
        self,
        publication: Publication,
        now: float,
        sent_at: int,
        force: bool,  # noqa: FBT001  a flag of the script
    ) -> Command:
        key = self.keys.token(publication.grant.name)
        fields = records.token_fields(publication)
        life = records.remaining_life(publication, now)
        return (
            *("EVALSHA", SCRIPT_SHA, 1, key, "version", publication.grant.version, int(force)),
            *("" if math.isinf(life) else math.floor(life * 1000), sent_at),
            *(key, records.token_message(publication) if fields else "", *_flat(fields)),
        )

    def _status_command(self, publication: Publication, force: bool) -> Command:  # noqa: FBT001  a flag of the script
        key = self.keys.status(publication.grant.name)
        order = publication.grant.revision
        fields = _flat(records.status_fields(publication))
        return (
            "EVALSHA",
            SCRIPT_SHA,
            1,
            key,
            "revision",
            order,
            int(force),
            "",
            "",
            "",
            "",
            *fields,
        )

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS; those that found the script forgotten run again after it is loaded."""
        replies = await self.server.pipeline(commands)
        forgotten = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            await self.server.execute("SCRIPT", "LOAD", SCRIPT)
            again = await self.server.pipeline([commands[at] for at in forgotten])
            for at, reply in zip(forgotten, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply, self.server.where)
        return replies

    def _late_without_reason(
        self, part: Sequence[Publication], written: Mapping[str, Outcome]
    ) -> bool:
        """Whether Redis found a token ended that has not: its clock was stepped."""
        now = self._clock.now()
        return any(
            written[publication.grant.name] is Outcome.LATE
            and records.remaining_life(publication, now) > 1
            for publication in part
        )


def _news(publication: Publication, written: Outcome, remembered: Fields) -> list[EventKind]:
    """The events that no status remembers yet."""
    grant = publication.grant
    if int(remembered.get("revision", -1)) > grant.revision:
        return []
    news = []
    is_readable = written in {Outcome.WRITTEN, Outcome.REWRITTEN}
    if is_readable and int(remembered.get("version", -1)) != grant.version:
        news.append(EventKind.PUBLISHED)
    state = (remembered.get("state"), remembered.get("reason"))
    if state != (grant.state.value, grant.reason):
        news.append(EventKind.STATE)
    answer = {name: remembered[name] for name in ANSWER if name in remembered}
    told = records.status_fields(publication)
    if "request" in told and answer != {name: told[name] for name in ANSWER if name in told}:
        news.append(EventKind.REQUEST)
    return news


def _has_just_gone(publication: Publication, written: Outcome, remembered: Fields) -> bool:
    """Whether no status tells yet that the key of the token has gone.

    What announces a grant with a token that lives on is the status alone.
    """
    grant, before = publication.grant, int(remembered.get("revision", -1))
    if before > grant.revision or not records.has_gone(publication):
        return False
    if written is Outcome.REMOVED:
        return True
    if records.is_withdrawn(publication):
        return remembered.get("state") != grant.state.value
    is_readable = written in {Outcome.WRITTEN, Outcome.REWRITTEN}
    return records.gone_since(grant, before) and not is_readable


def _remembered(values: Sequence[bytes | None]) -> Fields:
    """The status as far as it can be read; numbers spoilt by others count as absent."""
    fields = {
        field: value.decode(errors="replace")
        for field, value in zip(REMEMBERED, values, strict=True)
        if value is not None
    }
    return {
        field: value
        for field, value in fields.items()
        if field in {"state", "reason", "request"} or value.isdecimal()
    }


def _outcome(reply: Sequence[bytes]) -> Outcome:
    return Outcome(reply[0].decode())


def _flat(fields: Fields) -> list[str]:
    return [part for pair in fields.items() for part in pair]

"""Writes publications: one atomic newer-version-wins script for each key, many at a time.

The order within a batch is: tokens first, because consumers wait for them; then the
events that are news; then the statuses. A status is what remembers that its events were
written, so a crash in between repeats an event and never loses one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refresher.clock import Clock
from refresher.domain.grants import Grant, Publication
from refresher.logs import Event, emit
from refresher.publication import records
from refresher.publication.keys import EVENTS_LENGTH, Keys
from refresher.publication.records import EventKind, Fields, Told
from refresher.publication.reports import READABLE, Outcome, PublishReport
from refresher.publication.server import clock as server_clock
from refresher.publication.server import scripts
from refresher.publication.server.clock import Offset, Steps
from refresher.publication.server.connection import Command, Server
from refresher.publication.server.doubts import Doubts
from refresher.publication.server.faults import (
    Moved,
    Refused,
    is_spoilt,
    refused_in_script,
    unavailable,
)
from refresher.publication.server.masters import Masters
from refresher.publication.server.rights import Rights
from refresher.publication.server.scripts import Mode
from refresher.publication.versions import read_version

BATCH = 64
"""Publications in one round trip; above 128 nothing is gained."""

NO_STREAM = "could take no more events: it was begun anew"

REMEMBERED = ("revision", "version", "state", "reason", "request", "request_until")
"""Fields of the last status that tell which events are news."""

ANSWER = ("request", "request_until")
"""Those of them that answer consumers."""


_WRITTEN = [b"written", b"", b"", b""]
"""What the script answers where there is nothing to be told."""


class Publisher:
    """Publishes to Redis under one prefix.

    Args:
        server: is not closed here.
        clock: whose ``now`` is the one that ``expires_at`` is measured by.
    """

    def __init__(self, *, server: Masters, keys: Keys, clock: Clock) -> None:
        self.server = server
        self.keys = keys
        self._clock = clock
        self._steps = Steps(clock)
        self._offsets: dict[Server, Offset] = {}
        self._doubts = Doubts()
        self.rights = Rights(lambda: server.where, clock.monotonic)

    async def connect(self) -> None:
        """Load the script, measure the clocks, look for settings that lose keys.

        The masters have been found.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        await scripts.PUBLISH.load(self.server)
        await self.check_server()

    async def check_server(self) -> None:
        """Measure the clocks again and read INFO; warn once of what may lose keys.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        await self.measure_clock()
        await self._doubts.examine(self._offsets)

    async def measure_clock(self) -> None:
        """See how far Redis' clock is from ours, from now on.

        Raises:
            PublicationUnavailable: when Redis cannot be asked.
        """
        self._offsets = await server_clock.measure_all(self.server, self._clock)

    async def publish(
        self,
        batch: Sequence[Publication],
        *,
        now: float,
        force: Collection[str] = (),
        spared: Collection[str] = (),
        again: bool = False,
    ) -> PublishReport:
        """Bring Redis to what BATCH says, as far as BATCH is newer.

        Args:
            now: when BATCH was read from the vault: time that passes until Redis executes
                is subtracted from the life of the tokens.
            force: names whose higher version in Redis is overwritten, the vault having
                been read after Redis.
            spared: names of which only the status is ever forced.
            again: says once more what consumers may not have heard.

        Raises:
            PublicationUnavailable: any part of BATCH may have been written, or may be yet.
        """
        sent = _Sent(now=now, force=force, spared=spared, again=again)
        await self._know_clocks()
        for start in range(0, len(batch), BATCH):
            part = batch[start : start + BATCH]
            sent.told |= {one.grant.name: records.told_of(one, now) for one in part}
            remembered = await self._send_tokens(part, sent)
            if self._late_without_reason(part, sent.tokens):
                sent.left.clear()
                await self.measure_clock()
                remembered = await self._send_tokens(part, sent)
            await self._send_statuses(part, sent, remembered)
        return PublishReport(
            sent.tokens, sent.statuses, sent.told, frozenset(sent.left), frozenset(sent.spoilt)
        )

    async def show(self, batch: Sequence[Publication], *, now: float) -> frozenset[str]:
        """Bring back the token keys of BATCH that are missing or older, and nothing else.

        Whatever else there is to do about one of them, a publication that follows does.

        Args:
            now: as in ``publish``.

        Returns:
            Names of which the key held something of another type.

        Raises:
            PublicationUnavailable: any part of BATCH may have been written, or may be yet.
        """
        sent = _Sent(now=now, force=(), spared=(), again=False)
        await self._know_clocks()
        names: list[str] = []
        commands: list[Command] = []
        for one in batch:
            if (life := records.remaining_life(one, now)) > 0:
                names.append(one.grant.name)
                told = records.token_and_message(one)
                commands.append(self._token_command(one, sent, told, life))
        replies = await scripts.PUBLISH.run(self.server, commands)
        for name, reply in zip(names, replies, strict=True):
            self._outcome(reply, name, sent)
        return frozenset(sent.spoilt)

    async def without(self, versions: Mapping[str, int]) -> list[str]:
        """The names of those of VERSIONS that Redis does not show.

        Raises:
            PublicationUnavailable: when Redis cannot be read.
        """
        key = self.keys.token
        replies = await self.server.pipeline([("HGET", key(name), "version") for name in versions])
        pairs = zip(versions.items(), replies, strict=True)
        return [name for (name, version), reply in pairs if reply != b"%d" % version]

    async def _know_clocks(self) -> None:
        if self._steps.was_stepped() or not self._offsets:
            await self.measure_clock()  # the last would tell Redis a wrong time of sending

    async def remove(self, names: Sequence[str]) -> None:
        """Delete token and status of NAMES, which the vault does not know.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        keys = [key(name) for name in names for key in (self.keys.token, self.keys.status)]
        for reply in await self.server.pipeline([("DEL", key) for key in keys]):
            self.is_done(reply, None)

    async def _send_tokens(self, part: Sequence[Publication], sent: "_Sent") -> dict[str, Fields]:
        """Write the token keys and read what the statuses remember."""
        commands: list[Command] = []
        for publication in part:
            name = publication.grant.name
            status, told = self.keys.status(name), sent.told[name]
            commands += [
                self._token_command(publication, sent, (told.token, told.message), told.life),
                ("HMGET", status, *REMEMBERED),
            ]
        replies = await scripts.PUBLISH.run(self.server, commands)
        remembered: dict[str, Fields] = {}
        for publication, token, status in zip(part, replies[::2], replies[1::2], strict=True):
            name = publication.grant.name
            sent.tokens[name] = self._outcome(token, name, sent)
            is_read = not is_spoilt(status) and self.is_done(status, name)
            remembered[name] = _remembered(status) if is_read and not sent.again else {}
        return remembered

    async def _send_statuses(
        self, part: Sequence[Publication], sent: "_Sent", remembered: Mapping[str, Fields]
    ) -> None:
        """Write the events that are news, then the statuses that remember them."""
        events: list[Command] = []
        gone: dict[str, Command] = {}
        for publication in part:
            name = publication.grant.name
            status = sent.told[name].status
            for kind in _news(publication.grant, status, sent.tokens[name], remembered[name]):
                entry = _flat(records.event_fields(kind, publication))
                events.append(("XADD", self.keys.events, "MAXLEN", "~", EVENTS_LENGTH, "*", *entry))
            if _has_just_gone(publication, sent.tokens[name], remembered[name]):
                message = records.gone_message(publication)
                gone[name] = ("PUBLISH", self.keys.token(name), message)
        statuses = [self._status_command(publication, sent) for publication in part]
        if events and self.server.is_divided:
            # Another server could take a status that says what its event has not said yet.
            await self._mend_events(events, await self.server.pipeline(events))
            events = []
        replies = await scripts.PUBLISH.run(self.server, [*events, *gone.values(), *statuses])
        await self._mend_events(events, replies[: len(events)])
        for name, reply in zip(gone, replies[len(events) :], strict=False):
            self.is_done(reply, name)
        for publication, reply in zip(part, replies[len(events) + len(gone) :], strict=True):
            name = publication.grant.name
            sent.statuses[name] = self._outcome(reply, name, sent)

    async def _mend_events(self, events: Sequence[Command], replies: Sequence[Any]) -> None:
        """Begin the stream anew if nothing can be added to it."""
        unsent = [one for one, reply in zip(events, replies, strict=True) if is_spoilt(reply)]
        if unsent:
            _, *replies = await self.server.pipeline([("DEL", self.keys.events), *unsent])
            emit(Event.MIRROR_REPAIRED, count=1, reason=f"{self.keys.events} {NO_STREAM}")
        for reply in replies:
            self.is_done(reply, None)

    def _token_command(
        self, publication: Publication, sent: "_Sent", told: tuple[Fields, str], life: float
    ) -> Command:
        name, (token, message) = publication.grant.name, told
        key = self.keys.token(name)
        return scripts.publish_command(
            key,
            ("version", publication.grant.version),
            token,
            mode=sent.mode(name, is_token=True),
            life=life,
            sent_at=self._offset_at(key).sent_at(sent.now),
            message=message,
        )

    def _offset_at(self, key: str) -> Offset:
        """How far the clock of the server that has KEY is from ours."""
        offset = self._offsets.get(self.server.master_of(key))
        if offset is None:
            raise Moved(f"{key} is at a server whose clock was not measured")
        return offset

    def _status_command(self, publication: Publication, sent: "_Sent") -> Command:
        name = publication.grant.name
        return scripts.publish_command(
            self.keys.status(name),
            ("revision", publication.grant.revision),
            sent.told[name].status,
            mode=sent.mode(name, is_token=False),
        )

    def _outcome(self, reply: Any, name: str, sent: "_Sent") -> Outcome:
        """What became of one hash of NAME."""
        if reply == _WRITTEN:
            return Outcome.WRITTEN
        if not self.is_done(reply, name):
            return Outcome.FORBIDDEN
        read = scripts.read_reply(reply)
        if read.unheard:
            self.rights.note(refused_in_script(read.unheard, self.server.where), name)
        if read.was_spoilt:
            sent.spoilt.add(name)
        outcome = Outcome(read.outcome)
        if outcome is Outcome.LATE and read.is_left:
            sent.left.add(name)
        return outcome

    def is_done(self, reply: Any, name: str | None) -> bool:
        """Whether REPLY is no refusal; one that stands is noted, with the grant NAME.

        Raises:
            PublicationUnavailable: for any other.
        """
        if not isinstance(reply, Exception):
            return True
        fault = unavailable(reply, self.server.where)
        if not isinstance(fault, Refused):
            raise fault
        self.rights.note(fault, name)
        return False

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


@dataclass(slots=True, kw_only=True)
class _Sent:
    """What one call of ``publish`` was asked, and what became of it so far."""

    now: float
    force: Collection[str]
    spared: Collection[str]
    again: bool
    told: dict[str, Told] = field(default_factory=dict)
    tokens: dict[str, Outcome] = field(default_factory=dict)
    statuses: dict[str, Outcome] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)

    def mode(self, name: str, *, is_token: bool) -> Mode:
        """What the script may do with one of the hashes of NAME."""
        if name in self.force and not (is_token and name in self.spared):
            return Mode.FORCE
        return Mode.AGAIN if self.again else Mode.NEWER


def _news(grant: Grant, told: Fields, written: Outcome, remembered: Fields) -> list[EventKind]:
    """The events that no status remembers yet; the one of GRANT is TOLD now."""
    revision, version = (read_version(remembered.get(one, "")) for one in ("revision", "version"))
    if revision is not None and revision > grant.revision:
        return []
    news = []
    is_readable = written in READABLE
    if is_readable and version != grant.version:
        news.append(EventKind.PUBLISHED)
    state = (remembered.get("state"), remembered.get("reason"))
    if state != (grant.state.value, grant.reason):
        news.append(EventKind.STATE)
    if "request" in told and any(told.get(name) != remembered.get(name) for name in ANSWER):
        news.append(EventKind.REQUEST)
    return news


def _has_just_gone(publication: Publication, written: Outcome, remembered: Fields) -> bool:
    """Whether no status tells yet that the key of the token has gone.

    What announces a grant with a token that lives on is the status alone.
    """
    grant, before = publication.grant, read_version(remembered.get("revision", "")) or -1
    if before > grant.revision or not records.has_gone(publication):
        return False
    if written is Outcome.FORBIDDEN:
        return False
    if written is Outcome.REMOVED:
        return True
    if records.is_withdrawn(publication):
        return remembered.get("state") != grant.state.value
    is_readable = written in READABLE
    return records.gone_since(grant, before) and not is_readable


def _remembered(values: Sequence[bytes | None]) -> Fields:
    return {
        field: value.decode(errors="replace")
        for field, value in zip(REMEMBERED, values, strict=True)
        if value is not None
    }


def _flat(fields: Fields) -> list[str]:
    return [part for pair in fields.items() for part in pair]

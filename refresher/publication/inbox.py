"""What consumers say: "I was refused with version V of this grant".

They have two ways. Who is trusted with named grants sets ``refresher:rejected:NAME``, a key
that an access list can name; who is trusted with all adds to the stream ``refresher:requests``.
The tracking connection hears of both. Both are read bounded, joined by grant before the vault
is asked, and deleted once it took them, so whatever is written costs little, and what a crash
leaves is read again: the vault joins by version.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from refresher.clock import Clock
from refresher.domain.grants import is_valid_name
from refresher.domain.requests import Rejected
from refresher.errors import PublicationUnavailable, VaultError
from refresher.logs import Event, emit
from refresher.publication.keys import Keys
from refresher.publication.server.connection import Argument
from refresher.publication.server.faults import Refused, is_spoilt, unavailable
from refresher.publication.server.masters import Masters
from refresher.publication.server.scan import START, scan
from refresher.publication.server.scripts import Script
from refresher.publication.versions import read_version

AT_ONCE = 1000
"""Entries of the stream, or names, taken in one turn: 10 ms of a server at the most."""

LARGEST_ENTRY = 1024
"""Bytes of an entry of the stream that is read; a request has less than 300."""

LARGEST_VALUE = 20
"""Bytes that are read of a rejected key; a version has 13."""

PAUSE = 0.02
"""Seconds between two turns, however often consumers write."""

POLL_EVERY = 0.5
"""Seconds between two looks at the stream where tracking is refused."""

SCAN_EVERY = 5.0
"""Seconds between two walks over the keys where tracking is refused."""

SCAN_COUNT, SCAN_STEPS = 1000, 100
"""Keys in one step of a walk, and steps in one turn: the next turn goes on."""

RETRY = 1.0
"""Seconds before a Redis or a vault that cannot be used is tried again; the mirror and the
vault announce it."""

OVERDUE = -math.inf
"""When what cannot wait is due."""

TOLD_EVERY = 60.0
"""Seconds between two lines about what was thrown away for one reason."""

FAR_AHEAD = 3600.0
"""Seconds by which an id of the stream may be ahead of our clock."""

LONGEST_REASON = 16
"""Characters of a consumer's word. A longer one is told as ``other``: it may be a secret."""

Handler = Callable[[Mapping[str, Rejected]], Awaitable[set[str]]]
"""Takes what was rejected, and gives back the grants of which a version above the vault's was."""

EarlierTokens = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Versions in Redis that an earlier life of the vault made, by grant, of those asked for."""

REQUESTS, FORGET, CLEAR = (Script(f"{name}.lua") for name in ("requests", "forget", "clear"))


@dataclass(slots=True)
class Dropped:
    """Counts what was thrown away, and says so once a minute for each reason."""

    clock: Clock
    _counts: dict[str, int] = field(default_factory=dict)
    _told_at: dict[str, float] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        """COUNT more for REASON, one of a few words of ours."""
        self._counts[reason] = self._counts.get(reason, 0) + count
        now = self.clock.monotonic()
        if now - self._told_at.get(reason, -TOLD_EVERY) >= TOLD_EVERY:
            self._told_at[reason] = now
            emit(Event.REQUEST_DROPPED, reason=reason, count=self._counts.pop(reason))


class Inbox:
    """Reads what consumers reject, when it is told that there may be something.

    Args:
        server: is not closed here.
        earlier: finds tokens of earlier lives of the vault; None where none can be.
    """

    def __init__(
        self, *, server: Masters, keys: Keys, clock: Clock, earlier: EarlierTokens | None = None
    ) -> None:
        self._server = server
        self._keys = keys
        self._clock = clock
        self._earlier = earlier
        self._dropped = Dropped(clock)
        self._is_doubted = False
        self._wake = anyio.Event()
        self._names: set[str] = set()
        self._look_at = self._scan_at = OVERDUE
        self._cursor = START
        self._is_tracking = False

    def connected(self, *, is_tracking: bool) -> None:
        """Redis answers (again): what was written meanwhile was not heard."""
        self._is_tracking = is_tracking
        self._look_at = self._scan_at = OVERDUE
        self._cursor = START
        self._wake.set()

    def heard(self, key: str) -> None:
        """Somebody, perhaps we, changed KEY; any key may be named."""
        name = self._keys.rejected_name_of(key)
        if key == self._keys.requests:
            self._look_at = OVERDUE
        elif name is None:
            return
        elif len(self._names) < AT_ONCE:
            self._names.add(name)
        else:
            self._scan_at = OVERDUE
        self._wake.set()

    async def run(self, handler: Handler) -> None:
        """Hand what is rejected to HANDLER, for ever, whatever becomes of Redis.

        What a handler did not take, by a ``VaultError``, stays and is handed out again.
        """
        while True:
            self._wake = anyio.Event()
            try:
                is_done = await self._turn(handler)
            except (PublicationUnavailable, VaultError) as error:
                self._again(error)
                await anyio.sleep(RETRY * (1 + self._clock.draw()) / 2)
                continue
            if is_done:
                await anyio.sleep(PAUSE)
                if not self._names:
                    await self._wait()

    async def _turn(self, handler: Handler) -> bool:
        """Do what is due now; whether the stream has nothing more.

        What is written meanwhile is heard, and makes the next look due.
        """
        now = self._clock.monotonic()
        if now >= self._scan_at:
            self._scan_at = math.inf if self._is_tracking else now + SCAN_EVERY
            await self._scan()
        if self._names:
            await self._take_keys(handler)
        if now < self._look_at:
            return True
        self._look_at = math.inf if self._is_tracking else now + POLL_EVERY
        is_done = await self._take_entries(handler)
        if not is_done:
            self._look_at = OVERDUE
        return is_done

    async def _wait(self) -> None:
        seconds = min(self._look_at, self._scan_at) - self._clock.monotonic()
        with anyio.move_on_after(max(0.0, seconds)):
            await self._wake.wait()

    def _again(self, error: Exception) -> None:
        """What ERROR kept from being taken is still there; after a loss more may be."""
        self._look_at = OVERDUE
        if isinstance(error, PublicationUnavailable):
            self._scan_at = OVERDUE
            self._doubt(error)

    async def _scan(self) -> None:
        """Walk on over Redis' keys, for what nobody was told of."""
        for _ in range(SCAN_STEPS):
            if len(self._names) >= AT_ONCE:
                break
            self._cursor, keys = await scan(
                self._server, self._cursor, self._keys.rejections, SCAN_COUNT
            )
            found = map(self._keys.rejected_name_of, keys)
            self._names.update(name for name in found if name is not None)
            if self._cursor == START:
                return
        self._scan_at = OVERDUE

    async def _take_keys(self, handler: Handler) -> None:
        """Act on the rejected keys that were heard of; what changes meanwhile is heard again."""
        names = list(self._names)[:AT_ONCE]
        self._names.difference_update(names)
        try:
            values = await self._values(names)
            rejected: dict[str, Rejected] = {}
            for name, value in values.items():
                self._read_key(name, value, rejected)
            await self._hand(rejected, handler)
            calls = [
                (self._keys.rejected(name), LARGEST_VALUE, value or b"")
                for name, value in values.items()
            ]
            await self._run(CLEAR, *calls)
        except BaseException:
            self._names.update(names)
            raise

    async def _values(self, names: Sequence[str]) -> dict[str, bytes | None]:
        """What begins the rejected keys of NAMES that are there; None where it is no string."""
        commands = [("GETRANGE", self._keys.rejected(name), 0, LARGEST_VALUE - 1) for name in names]
        values: dict[str, bytes | None] = {}
        replies = await self._server.pipeline(commands)
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, bytes):
                values |= {name: reply} if reply else {}
            elif is_spoilt(reply):
                values[name] = None
            else:
                raise unavailable(reply, self._server.where)
        return values

    def _read_key(self, name: str, value: bytes | None, rejected: dict[str, Rejected]) -> None:
        version = None if value is None else read_version(value.decode(errors="replace"))
        if is_valid_name(name) and version is not None:
            rejected[name] = Rejected(frozenset({version}))
        else:
            self._dropped.add("wrong_type" if value is None else "malformed")

    async def _take_entries(self, handler: Handler) -> bool:
        """Take the oldest entries of the stream; whether that were all of them."""
        stream = self._keys.requests
        [(was_spoilt, too_large, found)] = await self._run(
            REQUESTS, (stream, AT_ONCE, LARGEST_ENTRY)
        )
        if was_spoilt:
            self._dropped.add("wrong_type")
        if too_large:
            self._dropped.add("too_large", too_large)
        ids: Sequence[bytes] = found[::2]
        await self._hand(self._joined(found[1::2]), handler)
        if ids:
            latest = int(ids[-1].partition(b"-")[0]) / 1000
            if latest > self._clock.now() + FAR_AHEAD:
                self._dropped.add("far_future")
        if ids or too_large:
            await self._run(FORGET, (stream, b" ".join(ids)))
        return not too_large and len(ids) < AT_ONCE

    def _joined(self, entries: Sequence[Sequence[bytes]]) -> dict[str, Rejected]:
        """What ENTRIES say, each grant once."""
        said: dict[bytes, tuple[set[int], bytes]] = {}
        malformed = 0
        for parts in entries:
            fields = dict(zip(parts[::2], parts[1::2], strict=False))
            version = read_version(fields.get(b"version", b"").decode(errors="replace"))
            if version is None:
                malformed += 1
                continue
            name = fields.get(b"grant", b"")
            if name not in said:
                said[name] = set(), fields.get(b"reason", b"")
            said[name][0].add(version)
        joined = {
            name.decode(errors="replace"): Rejected(frozenset(versions), short_word(reason))
            for name, (versions, reason) in said.items()
        }
        valid = {name: rejected for name, rejected in joined.items() if is_valid_name(name)}
        malformed += len(said) - len(valid)
        if malformed:
            self._dropped.add("malformed", malformed)
        return valid

    async def _hand(self, rejected: Mapping[str, Rejected], handler: Handler) -> None:
        """Let HANDLER take REJECTED; again what may be of an earlier life, with its version."""
        if not rejected:
            return
        ahead = await handler(rejected)
        if not ahead or self._earlier is None:
            return
        seen = await self._earlier(sorted(ahead))
        again = {
            name: Rejected(rejected[name].versions, rejected[name].reason, version)
            for name, version in seen.items()
        }
        if again:
            await handler(again)

    async def _run(self, script: Script, *calls: Sequence[Argument]) -> list[Any]:
        """Run SCRIPT for each of CALLS, a key and arguments; every one of them is answered."""
        replies = await script.run(self._server, [script.call(*call) for call in calls])
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply, self._server.where)
        return replies

    def _doubt(self, error: Exception) -> None:
        """Announce once what the mirror does not see: that requests cannot be read."""
        is_forbidden = isinstance(error, Refused) and "the ACL" in str(error)
        if is_forbidden and not self._is_doubted:
            self._is_doubted = True
            emit(Event.REDIS_DOUBTED, reason=f"requests of consumers cannot be read: {error}")


def short_word(text: bytes) -> str:
    """TEXT as a word of ``[a-z0-9_]`` that is no secret: what is long is no reason."""
    word = re.sub(r"[^a-z0-9]+", "_", text.decode(errors="replace").lower()).strip("_")
    return word if len(word) <= LONGEST_REASON else "other"

"""Secrets that are replaced where they are kept, while the daemon runs.

Secret stores rotate a client's secret or the password of Redis and tell nobody: they swap
a file, or a command prints something else. The watch looks at files every few seconds and
at everything when somebody was refused; what cannot be read keeps its last value.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.logs import Event, emit
from refresher.publication.server.connection import Address, check_address
from refresher.settings.commands import COMMAND_TIMEOUT
from refresher.settings.layers import KeyPath
from refresher.settings.model import RedisSettings, Settings
from refresher.settings.report import shown
from refresher.settings.secret_places import (
    InFiles,
    Look,
    Printed,
    Rereadable,
    Stamp,
)
from refresher.settings.urls import redis_doubts
from refresher.threads import in_thread_of_its_own

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""

COMMAND_EVERY = 60.0
"""Seconds between two runs of a command: behind it may be a person, or a bill."""

SETTLED = 0.2
"""Seconds a new content must stay the same: half a secret, sent to some servers, costs the
refresh token that it came with."""

LOOKS_TO_SETTLE = 5
"""Looks, ``SETTLED`` apart, at a file that is being written before it is left for later."""

FILES_WITHIN = 5.0
"""Seconds a file system may take to answer."""

ASKED_WITHIN = 15.0
"""Seconds whoever was refused waits for a look: longer than one command may take."""

OF_CLIENT = {
    "client_secret": "secret",
    "second_client_secret": "second_secret",
    "client_private_key": "private_key",
    "initial_access_token": "initial_access_token",
}
"""Keys of a client's secrets, and their fields of its authentication."""

SECOND_COUNTS = "the server refuses it: second_client_secret counts now"

FOLDERS_AT_ONCE, COMMANDS_AT_ONCE = 8, 4
"""Threads that look at files, and commands that run, at the same time; a folder that does
not answer takes its place for ``FILES_WITHIN`` once."""


@dataclass(slots=True, eq=False)
class _Watched:
    """One secret, and what was seen of it last."""

    secret: Rereadable
    stamp: Stamp | None = None
    is_failing: bool = False


@dataclass(slots=True, eq=False)
class _Spot:
    """What fails together: the files of one folder, or one command.

    At most one thread looks there. One that a dead file system holds is left alone, and
    nothing else is started there until it comes back.
    """

    secrets: list[_Watched] = field(default_factory=list)
    command: Printed | None = None
    looking: anyio.Lock = field(default_factory=anyio.Lock)
    is_busy: bool = False
    ran_at: float | None = None
    """Monotonic instant of the command's last run by the watch."""
    is_wanted: bool = False
    """The command was asked for before its minute was over."""


class SecretWatch:
    """Holds the clients and the address of Redis with the secrets of just now.

    Args:
        look_every: seconds between two looks at files.
        command_every: seconds between two runs of a command.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        look_every: float = LOOK_EVERY,
        command_every: float = COMMAND_EVERY,
    ) -> None:
        self._clock = clock
        self._look_every = look_every
        self._command_every = command_every
        self._folders = anyio.Semaphore(FOLDERS_AT_ONCE)
        self._commands = anyio.Semaphore(COMMANDS_AT_ONCE)
        self._client_changed: Callable[[Client], Awaitable[None]] | None = None
        self._address_changed: Callable[[Address], Awaitable[None]] | None = None
        self.clients: dict[str, Client] = {}
        """Exchanged in place; whoever needs one client looks it up when it begins."""
        self.take_over(settings)

    @property
    def address(self) -> Address:
        """Where Redis is and who we are there."""
        return _address(self._redis)

    def take_over(self, settings: Settings) -> None:
        """Forget everything for SETTINGS, just loaded; a look under way counts no more."""
        self.clients.clear()
        self.clients.update(settings.clients)
        self._redis = settings.redis
        self._spots = _spots(settings.rereadable)

    async def run(
        self,
        *,
        client_changed: Callable[[Client], Awaitable[None]],
        address_changed: Callable[[Address], Awaitable[None]],
    ) -> None:
        """Look at the files for ever, and run commands that had to wait for their minute.

        Args:
            client_changed: is called with a client whose secret or proxy was replaced.
            address_changed: is called with the new address of Redis.
        """
        self._client_changed, self._address_changed = client_changed, address_changed
        async with anyio.create_task_group() as looks:
            while True:
                for spot in self._spots:
                    is_due = spot.command is None or spot.is_wanted
                    if is_due and not spot.looking.locked():
                        looks.start_soon(self._look, spot, spot.secrets)
                await anyio.sleep(self._look_every)

    async def reread(self, client: Client, error: str) -> bool:
        """Look at once at the secrets of CLIENT: before a server's word against it counts.

        Args:
            client: as it was when the request was sent that the server refused; it may have
                been exchanged since.
            error: the server's word. None but ``invalid_client`` is about the secret.

        Returns:
            Whether ``clients`` holds another one now, with which to try again.
        """
        if self.clients.get(client.name) == client:
            await self._look_within_reason(("clients", client.name))
        if error == "invalid_client":
            await self._switch(client)
        return self.clients.get(client.name, client) != client

    async def reread_address(self) -> Address:
        """Look at once at the URL and the password of Redis, and tell what counts now."""
        await self._look_within_reason(("redis",))
        return self.address

    async def _look_within_reason(self, table: KeyPath) -> None:
        """Look at the secrets in TABLE, whatever was seen last, for ``ASKED_WITHIN``."""
        with anyio.move_on_after(ASKED_WITHIN):
            async with anyio.create_task_group() as looks:
                for spot in self._spots:
                    self._start_asked(looks, spot, table)

    def _start_asked(self, looks: TaskGroup, spot: _Spot, table: KeyPath) -> None:
        asked = [one for one in spot.secrets if one.secret.path[: len(table)] == table]
        for one in asked:
            one.stamp = None
        if asked:
            looks.start_soon(self._look, spot, asked)

    async def _look(self, spot: _Spot, secrets: list[_Watched]) -> None:
        async with spot.looking:
            if spot.is_busy:
                return
            if spot.command is None:
                await self._look_at_files(spot, secrets)
            elif self._may_run(spot):
                await self._run_command(spot, secrets)

    def _may_run(self, spot: _Spot) -> bool:
        now = self._clock.monotonic()
        spot.is_wanted = spot.ran_at is not None and now - spot.ran_at < self._command_every
        return not spot.is_wanted

    async def _run_command(self, spot: _Spot, secrets: list[_Watched]) -> None:
        spot.is_wanted = True  # even if whoever asks gives up while others run
        async with self._commands:
            spot.ran_at = self._clock.monotonic()
            spot.is_wanted = False
            found = await self._in_thread(
                spot, [one.secret.read for one in secrets], within=COMMAND_TIMEOUT + 1
            )
        for one, look in zip(secrets, found, strict=True):
            await self._take(spot, one, look)

    async def _look_at_files(self, spot: _Spot, secrets: list[_Watched]) -> None:
        """Take what is new once it is the same at two looks."""
        seen: dict[_Watched, Secret] = {}
        for _ in range(LOOKS_TO_SETTLE):
            looks = [_look_of(one, again=one in seen) for one in secrets]
            async with self._folders:
                found = await self._in_thread(spot, looks, within=FILES_WITHIN)
            unsettled: dict[_Watched, Secret] = {}
            for one, look in zip(secrets, found, strict=True):
                if spot not in self._spots:
                    return
                if look.value in (None, self._current(one.secret.path), seen.get(one)):
                    await self._take(spot, one, look)
                else:
                    assert look.value is not None
                    unsettled[one] = look.value
            if not unsettled:
                return
            seen, secrets = unsettled, list(unsettled)
            await anyio.sleep(SETTLED)

    async def _in_thread(
        self, spot: _Spot, looks: list[Callable[[], Look]], *, within: float
    ) -> list[Look]:
        """What LOOKS find in a thread of their own, or that it did not end in time."""

        def work() -> list[Look]:
            try:
                return [look() for look in looks]
            finally:
                spot.is_busy = False

        spot.is_busy = True
        try:
            with anyio.fail_after(within):
                return await in_thread_of_its_own(work)
        except TimeoutError:
            fault = "did not answer in time"
        except RuntimeError as error:  # no thread can be started
            spot.is_busy, fault = False, f"cannot be looked at: {error}"
        return [Look(None, fault=fault)] * len(looks)

    async def _take(self, spot: _Spot, watched: _Watched, look: Look) -> None:
        """Let what LOOK found count, unless the settings were loaded again meanwhile."""
        if spot not in self._spots:
            return
        watched.stamp = look.stamp
        fault = look.fault
        if look.value is not None and look.value != self._current(watched.secret.path):
            fault = await self._replace(watched.secret, look.value)
        if fault is not None and not watched.is_failing:
            emit(Event.SECRET_DOUBTED, setting=watched.secret.key, reason=fault)
        watched.is_failing = fault is not None

    def _current(self, path: KeyPath) -> Secret | None:
        """The value of PATH that counts now."""
        section, *_, key = path
        if section == "redis":
            return self._redis.password if key == "password" else self._redis.url
        client = self.clients[str(path[1])]
        if key == "proxy":
            return None if client.route.proxy is None else Secret(client.route.proxy)
        found: Secret | None = getattr(client.authentication, OF_CLIENT[str(key)])
        return found

    async def _replace(self, secret: Rereadable, value: Secret) -> str | None:
        """Let VALUE count from now on; why it cannot, if so."""
        section, *_, key = secret.path
        if section == "redis":
            if key == "password":
                redis = replace(self._redis, password=value)
            else:
                redis = replace(self._redis, url=value)
            try:
                check_address(_address(redis))
            except ValueError as error:
                return str(error)
            self._redis = redis
            emit(Event.SECRET_REPLACED, setting=secret.key)
            if key != "password":
                has_password = redis.password is not None
                for doubt in redis_doubts(redis.url.reveal(), has_password=has_password):
                    emit(Event.SETTINGS_DOUBTED, setting=secret.key, reason=doubt)
            if self._address_changed is not None:
                await self._address_changed(self.address)
            return None
        client = self.clients[str(secret.path[1])]
        if key == "proxy":
            client = replace(client, route=replace(client.route, proxy=value.reveal()))
        else:
            changed: dict[str, Any] = {OF_CLIENT[str(key)]: value, "is_second": False}
            client = replace(client, authentication=replace(client.authentication, **changed))
        emit(Event.SECRET_REPLACED, setting=secret.key)
        await self.exchange(client)
        return None

    async def _switch(self, client: Client) -> None:
        """Let the second secret of CLIENT count, whose first the server has refused."""
        switched = client.authentication.switched()
        if switched is not None and self.clients.get(client.name) == client:
            setting = shown(("clients", client.name, "client_secret"))
            emit(Event.SECRET_DOUBTED, setting=setting, reason=SECOND_COUNTS)
            await self.exchange(replace(client, authentication=switched))

    async def exchange(self, client: Client) -> None:
        """Let CLIENT count in the place of the one before, and tell of it."""
        self.clients[client.name] = client
        if self._client_changed is not None:
            await self._client_changed(client)


def _look_of(watched: _Watched, *, again: bool) -> Callable[[], Look]:
    """How to look at WATCHED: what is new or fails is read whatever its file's stamp."""
    secret, stamp = watched.secret, watched.stamp
    if again or watched.is_failing:
        return secret.read
    return lambda: secret.read_if_changed(stamp)


def _spots(rereadable: Iterable[Rereadable]) -> frozenset[_Spot]:
    commands: list[_Spot] = []
    folders: dict[Path, _Spot] = {}
    for secret in rereadable:
        match secret.place:
            case InFiles(files=files):
                spot = folders.setdefault(files[-1].parent, _Spot())
                spot.secrets.append(_Watched(secret))
            case Printed() as command:
                commands.append(_Spot([_Watched(secret)], command))
    return frozenset((*folders.values(), *commands))


def _address(redis: RedisSettings) -> Address:
    return Address(url=redis.url.reveal(), username=redis.username, password=redis.password)

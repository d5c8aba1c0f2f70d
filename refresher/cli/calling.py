"""How a command reaches the grants: through the daemon, or alone on the vault."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from refresher import logs
from refresher.acting import acting, operator
from refresher.cli.saying import say
from refresher.errors import (
    ControlUnavailable,
    DaemonStarting,
    RefresherError,
    SettingsError,
    VaultInUse,
)
from refresher.files import read_file
from refresher.logs import libraries
from refresher.ops.control_client import ControlClient
from refresher.settings.layers import LARGEST_FILE
from refresher.settings.loading import find_file, load
from refresher.settings.model import LoadedSettings, Settings
from refresher.settings.secret_places import Needed
from refresher.settings.user import become_owner_of

Call = Callable[..., Awaitable[Any]]
"""``await call("operation", name=..., ...)``: the same through either way."""

LOOK_EVERY = 0.2
"""Seconds between two questions whether a daemon that starts answers by now."""

LOOKS = 150
"""Questions at the most: a start takes longer only on a slow disk, or after a crash."""

LONGEST_CALL = 90.0
"""Seconds; the exchange of a code may take 30 and a vault that refuses is tried on."""


def load_settings(context: click.Context) -> Settings:
    """The settings a command works with; its own log lines go to stderr and only if bad."""
    settings = load(context.obj, needed=Needed.NONE).settings
    logs.configure(level="error", output=sys.stderr)
    libraries.take_over()
    return settings


def load_completely(config: Path | None, **options: Any) -> LoadedSettings:
    """The settings with their secrets; as root, as the user whom the file belongs to."""
    file, _ = find_file(config)
    if file is not None:
        # Whoever can write it chooses the commands that secrets come from.
        become_owner_of(file)
    return load(config, **options)


@asynccontextmanager
async def calling(settings: Settings, *, needed: Needed = Needed.ALL) -> AsyncIterator[Call]:
    """Give the way to the operations: the control socket if a daemon answers, else alone.

    Args:
        needed: the secrets that the work takes without a daemon. Where those of Redis are
            enough they are not indispensable: the next daemon publishes everything. Without
            any it only looks.

    Raises:
        DaemonStarting: a daemon has the vault, and has answered no command for a while.
        VaultInUse: no daemon answers, yet another process has the vault.
    """
    client = ControlClient(settings.control.socket)
    if await _is_answered(client) or await _has_started(client, settings.vault.path):
        yield partial(client.call, answer_within=LONGEST_CALL)
        return
    async with AsyncExitStack() as stack:
        # Before it becomes somebody else.
        stack.enter_context(acting(operator(os.getuid(), os.getpid())))
        complete = _load_alone(settings, needed)
        become_owner_of(complete.vault.path)
        try:
            operations = await stack.enter_async_context(_alone(complete, needed))
        except VaultInUse as error:
            if not error.is_daemon:
                raise
            raise DaemonStarting(
                f"the daemon (process {error.pid}) has the vault, and answers no command: it is "
                f"starting or ending, or listens elsewhere than on {settings.control.socket}"
            ) from error

        async def call(operation: str, **parameters: Any) -> Any:
            return await operations[operation](parameters)

        yield call


def _alone(
    settings: Settings, needed: Needed
) -> AbstractAsyncContextManager[Mapping[str, Callable[..., Awaitable[Any]]]]:
    """The operations on the vault itself; those that need no secret are the questions."""
    # Half of a command's time to start, and not needed beside a daemon.
    if needed is Needed.NONE:
        from refresher.app.looking import looking  # noqa: PLC0415  see above

        return looking(settings)
    from refresher.app.without_daemon import alone  # noqa: PLC0415  see above

    return alone(settings)


async def _is_answered(client: ControlClient) -> bool:
    """Whether a daemon answers on the control socket."""
    try:
        await client.call("ping", answer_within=10.0)
    except ControlUnavailable:
        return False
    return True


async def _has_started(client: ControlClient, vault: Path) -> bool:
    """Wait for a daemon that has VAULT already; whether it answers now."""
    from refresher.vault.opening import lock_path  # noqa: PLC0415  see above
    from refresher.vault.sqlite.file_lock import daemon_in  # noqa: PLC0415  it takes as long as ``alone``

    for look in range(LOOKS):
        pid = daemon_in(lock_path(vault))
        if pid is None:
            return False
        if look == 1:
            say(f"the daemon (process {pid}) is starting: waiting for it", err=True)
        await anyio.sleep(LOOK_EVERY)
        if await _is_answered(client):
            return True
    return False


def _load_alone(settings: Settings, needed: Needed) -> Settings:
    """SETTINGS, read without secrets, with those that are NEEDED."""
    config = click.get_current_context().obj
    if needed is Needed.ALL:
        return load_completely(config).settings
    if needed is Needed.NONE:
        if settings.vault.url is None:
            return settings
        return load_completely(config, needed=Needed.VAULT).settings
    try:
        loaded = load_completely(config, needed=needed)
    except SettingsError as error:
        hidden = error.problems
    else:
        hidden = [*loaded.not_seen, *loaded.of_service]
        if not hidden:
            return loaded.settings
    for line in hidden:
        say(f"warning: {line}", err=True)
    say("warning: Redis is not told by this command; the next daemon does it", err=True)
    return settings


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def tell(result: Any, text: str, *, as_json: bool) -> None:
    """Print what a command did: RESULT for programs, or TEXT for people."""
    say(json.dumps(result) if as_json else text)


def run(work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Run the async WORK of a command; Ctrl-C ends it where it may be ended."""
    return anyio.run(_in_order, partial(work, *arguments))


async def _in_order(work: Callable[[], Awaitable[Any]]) -> Any:
    """What WORK gives; when this task is cancelled, WORK ends behind its shields.

    Ctrl-C cancels the task that asyncio runs, which no shield withstands: an exchange under
    way would be cut off, and its answer may be the only good one.
    """
    scope = anyio.CancelScope()

    async def within() -> Any:
        with scope:
            return await work()

    task = asyncio.ensure_future(within())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def read_text(path: Path | None, prompt: str) -> str:
    """A secret from a file, or from stdin: asked for without echo on a terminal.

    Raises:
        RefresherError: the file cannot be read, or what is in it is no text.
    """
    try:
        if path is not None:
            return read_file(path, largest=LARGEST_FILE)[0].decode("utf-8").strip()
        stream = sys.stdin
        if stream.isatty():
            return str(click.prompt(prompt, hide_input=True, err=True)).strip()
        return stream.read().strip()
    except UnicodeDecodeError:
        # Not chained: the error carries what it failed on.
        raise RefresherError(f"the {prompt} is not UTF-8 text") from None
    except ValueError as error:
        raise RefresherError(f"{path} {error}") from error
    except OSError as error:
        raise RefresherError(f"the {prompt} cannot be read: {error.strerror}") from error

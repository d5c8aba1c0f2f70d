"""How a command reaches the grants: through the daemon, or alone on the vault."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from refresher import logs
from refresher.errors import ControlUnavailable, RefresherError
from refresher.logs import libraries
from refresher.ops.control_client import ControlClient
from refresher.settings.loading import load
from refresher.settings.model import Settings

Call = Callable[..., Awaitable[Any]]
"""``await call("operation", name=..., ...)``: the same through either way."""

LONGEST_CALL = 90.0
"""Seconds; the exchange of a code may take 30 and a vault that refuses is tried on."""


def load_settings(context: click.Context) -> Settings:
    """The settings a command works with; its own log lines go to stderr and only if bad."""
    settings = load(context.obj, public_only=True).settings
    logs.configure(level="error", output=sys.stderr)
    libraries.take_over()
    return settings


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Call]:
    """Give the way to the operations: the control socket if a daemon answers, else alone.

    Raises:
        VaultInUse: no daemon answers, yet another process has the vault.
    """
    client = ControlClient(settings.control.socket)
    try:
        await client.call("status", answer_within=10.0)
    except ControlUnavailable:
        # Half of a command's time to start, and not needed beside a daemon.
        from refresher.app.without_daemon import alone  # noqa: PLC0415  see above

        complete = load(click.get_current_context().obj).settings
        async with alone(complete) as operations:

            async def call(operation: str, **parameters: Any) -> Any:
                return await operations[operation](parameters)

            yield call
        return
    yield partial(client.call, answer_within=LONGEST_CALL)


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def tell(result: Any, text: str, *, as_json: bool) -> None:
    """Print what a command did: RESULT for programs, or TEXT for people."""
    click.echo(json.dumps(result) if as_json else text)


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
            return path.read_text("utf-8").strip()
        stream = sys.stdin
        if stream.isatty():
            return str(click.prompt(prompt, hide_input=True, err=True)).strip()
        return stream.read().strip()
    except OSError as error:
        raise RefresherError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Not chained: the error carries what it failed on.
        raise RefresherError(f"the {prompt} is not UTF-8 text") from None

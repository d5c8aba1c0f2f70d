"""The commands about servers that clients leave something to: discover and register."""

from collections.abc import Iterator
from typing import Any

import click

from refresher.cli.calling import as_json_option, calling, load_settings, run, tell
from refresher.cli.saying import say
from refresher.clock import SystemClock
from refresher.times import dated


@click.command()
@click.argument("client")
@click.option(
    "--accept", is_flag=True, help="Take endpoints that the metadata move to another host."
)
@as_json_option
@click.pass_context
def discover(
    context: click.Context,
    client: str,
    accept: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Ask the server of CLIENT what it is, and show it.

    A daemon does so once a day. What would send tokens or secrets to another host than
    before counts only with --accept: ask the provider first.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("discover", client=client, accept=accept)

    answer = run(ask)
    tell(answer, "\n".join(described(answer, SystemClock().now())), as_json=as_json)
    _say_doubts(answer)


@click.command()
@click.argument("client")
@click.option(
    "--again", is_flag=True, help="Get another client id in the place of the present one."
)
@as_json_option
@click.pass_context
def register(
    context: click.Context,
    client: str,
    again: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Have the server of CLIENT make it (RFC 7591).

    What comes back is used from then on. The settings say what is asked for: redirect_uris,
    scope, description, and an initial_access_token where the server wants one. The client
    id and the secret are sealed in the vault, and printed nowhere.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("register", client=client, again=again)

    answer, now = run(ask), SystemClock().now()
    end = answer["client_secret_expires_at"]
    until = "" if end is None else f", its secret ends {dated(end, now)}"
    tell(answer, f"{client} is registered at {answer['issuer']}{until}", as_json=as_json)
    _say_doubts(answer)


def described(view: dict[str, Any], now: float) -> Iterator[str]:
    """What is known of the client in VIEW from its server, a line each."""
    name, read_at = view["client"], view["read_at"]
    if read_at is not None:
        yield f"client {name}: metadata of {view['issuer']} read {dated(read_at, now)}"
        for key, url in view["endpoints"].items():
            if url is not None:
                yield f"    {key}: {url}"
        yield f"    client_authentication: {view['client_authentication']}"
    if view["registered_at"] is not None:
        yield f"client {name}: registered {dated(view['registered_at'], now)}"


def _say_doubts(view: dict[str, Any]) -> None:
    for doubt in view["doubts"]:
        say(f"warning: {doubt}", err=True)


COMMANDS = (discover, register)

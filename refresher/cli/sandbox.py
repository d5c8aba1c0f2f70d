"""``refresher sandbox``: an authorization server, and perhaps a Redis, to practise with."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import get_args

import anyio
import click

from refresher.cli.entry import Exit
from refresher.cli.saying import say
from refresher.demo.private_server import PrivateServerError, PrivateValkey
from refresher.errors import RefresherError
from refresher.sandbox.families import Rotation
from refresher.sandbox.options import SandboxOptions
from refresher.sandbox.process import serve
from refresher.sandbox.server import Sandbox

PORT = 8090
REDIS_PORT = 6379
"""Where ``refresher init`` lets the daemon look for Redis."""

REDIRECT_URI = "http://127.0.0.1:8765/callback/sandbox"
"""What ``refresher login`` listens on; its port is fixed, as most real servers want it."""

FIELDS = ", ".join(field.name for field in fields(SandboxOptions))

EPILOG = f"""\b
To begin:
  refresher init                  in a folder of its own
  refresher sandbox --redis       and paste what it prints into refresher.toml
  refresher run                   in a second terminal
  refresher login practice        in a third one

FILE or JSON of --options-json is an object with any of: {FIELDS}.
refresher/sandbox/README.md says what they are, and how a program makes grants and faults
over HTTP below /_sandbox/."""


@click.command(epilog=EPILOG)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port on 127.0.0.1; 0 takes a free one. [default: {PORT}]",
)
@click.option(
    "--redis",
    "redis_port",
    type=click.IntRange(1, 65535),
    is_flag=False,
    flag_value=REDIS_PORT,
    metavar="[PORT]",
    help=f"Start a Valkey too, gone with the sandbox; needs the demo extra. PORT: {REDIS_PORT}.",
)
@click.option(
    "--rotation",
    type=click.Choice(get_args(Rotation)),
    help="What a refresh does to the refresh token that it used. [default: strict]",
)
@click.option(
    "--lifetime",
    type=float,
    help="How long access tokens live. [default: 20]",
    metavar="SECONDS",
)
@click.option(
    "--options-json",
    "given",
    default="{}",
    metavar="FILE|JSON",
    help="Everything that can be chosen, faults among it; the options above win.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line, with base_url, instead.")
@click.pass_context
def sandbox(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    port: int | None,
    redis_port: int | None,
    rotation: Rotation | None,
    lifetime: float | None,
    given: str,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Run an authorization server to practise with.

    It consents to every login at once, and prints a client and a grant that are ready to be
    pasted into refresher.toml. It listens on loopback, remembers nothing, and ends with
    Ctrl-C. Its tokens open nothing but /resource of its own.
    """
    chosen = {"port": port, "rotation": rotation, "access_token_lifetime": lifetime}
    try:
        options = SandboxOptions.from_json_or_file(
            given,
            below={"port": PORT, "redirect_uris": [REDIRECT_URI]},
            above={name: value for name, value in chosen.items() if value is not None},
        )
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), context, param_hint="--options-json") from error

    def announce(server: Sandbox) -> None:
        say(json.dumps({"base_url": server.base_url}) if as_json else _told(server, redis_port))

    with _redis(redis_port):
        try:
            anyio.run(serve, options, announce)
        except* OSError as group:
            first = group.exceptions[0]
            raise RefresherError(f"the sandbox cannot listen: {first}") from group
    context.exit(Exit.DONE)


@contextmanager
def _redis(port: int | None) -> Iterator[None]:
    """A Valkey on PORT until the block ends; none without a port."""
    if port is None:
        yield
        return
    valkey = PrivateValkey(port=port)
    try:
        valkey.start()
    except PrivateServerError as error:
        hint = f"if a Redis listens on port {port} already, use it and leave --redis out"
        raise RefresherError(f"{error}; {hint}") from error
    try:
        yield
    finally:
        valkey.stop()


def _told(server: Sandbox, redis_port: int | None) -> str:
    """What a person is told when it listens."""
    lifetime = server.options.access_token_lifetime
    lines = [
        f"An authorization server to practise with listens at {server.base_url}.",
        f"It consents to every login at once; its access tokens live {lifetime:g} s.",
    ]
    if redis_port is not None:
        lines.append(f"A Valkey listens at redis://127.0.0.1:{redis_port}/0.")
    lines += ["Ctrl-C ends it and all that it knows. Paste this into refresher.toml:", ""]
    if redis_port not in {None, REDIS_PORT}:
        lines += ["[redis]", f'url = "redis://127.0.0.1:{redis_port}/0"', ""]
    return "\n".join([*lines, settings_of(server)])


def settings_of(server: Sandbox) -> str:
    """The tables of the settings that let the daemon use SERVER: a client and a grant."""
    options = server.options
    known = {"description": "The practice server"}
    if options.dialect == "survilla":
        known |= {"provider": "survilla", "base_url": server.base_url}
    else:
        known |= {
            "authorization_endpoint": server.authorization_endpoint,
            "token_endpoint": server.token_endpoint,
            "revocation_endpoint": server.revocation_endpoint,
        }
    lines = [f'{key} = "{value}"' for key, value in known.items()]
    lines += [
        f"redirect_uris = {json.dumps(list(options.redirect_uris))}",
        f'client_id = "{options.client_id}"',
        f'client_secret = "{options.client_secret}"',
    ]
    if options.dialect == "standard" and options.parameters_in == "query":
        lines.append('placement = "query"')
    if options.redirect_parameter != "redirect_uri":
        lines.append(f'redirect_uri_parameter = "{options.redirect_parameter}"')
    grace = f"({options.grace_seconds:g})" if options.rotation == "grace" else ""
    lines.append(f'rotation = "{options.rotation}{grace}"')
    return "\n".join(["[clients.sandbox]", *lines, "", "[grants.practice]", 'client = "sandbox"'])


COMMANDS = (sandbox,)

"""The commands about grants: status, show, refresh, login, set-token, import, remove."""

import json
import re
from pathlib import Path
from typing import Any

import click

from refresher.cli import importing, logins
from refresher.cli.calling import as_json_option, calling, load_settings, read_text, run, tell
from refresher.cli.entry import Exit
from refresher.cli.table import grants_table, needs_person, print_table
from refresher.clock import SystemClock
from refresher.domain.secret import Secret
from refresher.errors import RefresherError, UnknownGrant
from refresher.publication.connection import Address, open_server
from refresher.publication.keys import Keys
from refresher.settings.model import Settings

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What an access token is made of (RFC 6749 A.12, RFC 6750 2.1)."""


@click.command()
@click.argument("grant", required=False)
@as_json_option
@click.pass_context
def status(context: click.Context, grant: str | None, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Show every grant, or one: state, time left, next attempt, and what mends it.

    Exits 3 if a grant needs a human.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("status")

    answer = run(ask)
    views = [view for view in answer["grants"] if grant in {None, view["name"]}]
    if grant is not None and not views:
        raise UnknownGrant(grant)
    if as_json:
        click.echo(json.dumps({"daemon": answer["daemon"], "grants": views}))
    elif views:
        print_table(grants_table(views, SystemClock().now()))
    else:
        click.echo("no grants yet: `refresher login GRANT --client CLIENT` adds one")
    if not answer["daemon"]:
        click.echo("no daemon is running: nothing is being refreshed", err=True)
    context.exit(Exit.NEEDS_PERSON if any(map(needs_person, views)) else Exit.DONE)


@click.command()
@click.argument("grant")
@as_json_option
@click.pass_context
def show(context: click.Context, grant: str, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Print the access token of GRANT that consumers read from Redis now.

    \b
    curl -H "Authorization: Bearer $(refresher show acme)" https://api.example.com/

    Nothing but the token goes to stdout. Exits 1 if there is no valid token, 3 if that
    is so because the grant needs a human.
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    settings = load_settings(context)
    token, state = run(_read_published, settings, grant)
    if "access_token" not in token:
        told = f" ({state['state']}: {state.get('reason', '-')})" if state else ""
        click.echo(f"refresher: Redis holds no valid token for {grant}{told}", err=True)
        if "repair" in state:
            click.echo(f"repair: {state['repair']}", err=True)
        waits = state.get("state") in {"reauthorization_required", "paused", "pending"}
        context.exit(Exit.NEEDS_PERSON if waits else Exit.FAILED)
    click.echo(json.dumps(token) if as_json else token["access_token"])


async def _read_published(settings: Settings, name: str) -> tuple[dict[str, str], dict[str, str]]:
    address = Address(
        url=settings.redis.url.reveal(),
        username=settings.redis.username,
        password=settings.redis.password,
    )
    server, keys = open_server(address), Keys(settings.redis.prefix)
    try:
        token = await server.execute("HGETALL", keys.token(name))
        state = await server.execute("HGETALL", keys.status(name))
    finally:
        await server.aclose()
    return _decoded(token), _decoded(state)


def _decoded(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in fields.items()}


@click.command()
@click.argument("grant")
@as_json_option
@click.pass_context
def refresh(context: click.Context, grant: str, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Ask for a refresh of GRANT now.

    The daemon makes it due at once; without a daemon the command refreshes it itself.
    A paused grant (its last exchange has an unknown outcome) is taken up again.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("refresh", name=grant)

    answer = run(ask)
    done = answer.get("grant")  # only without a daemon the exchange has ended by now
    if as_json:
        click.echo(json.dumps(answer))
    if not answer["accepted"]:
        click.echo(f"refresher: {grant} cannot be refreshed: see `refresher status`", err=True)
        context.exit(Exit.NEEDS_PERSON)
    if done is not None and not answer["refreshed"]:
        told = done["reason"] or "a running daemon tries again"
        click.echo(f"refresher: {grant} was not refreshed ({done['state']}: {told})", err=True)
        context.exit(Exit.NEEDS_PERSON if needs_person(done) else Exit.FAILED)
    if not as_json:
        click.echo(f"{grant} is being refreshed" if done is None else f"{grant}: done")


@click.command("set-token")
@click.argument("grant")
@click.option("--file", type=click.Path(path_type=Path, exists=True), help="Read it from a file.")
@click.option("--expires-at", type=float, help="Its end in unix seconds, if it has one.")
@click.option("--token-type", default="Bearer", show_default=True, help="Its type.")
@as_json_option
@click.pass_context
def set_token(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grant: str,
    file: Path | None,
    expires_at: float | None,
    token_type: str,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Replace the static token of GRANT with the one on stdin.

    It is never taken from the command line, which other users of the machine can read.
    """
    settings = load_settings(context)
    token = read_text(file, "token")
    if not VISIBLE.fullmatch(token):
        raise RefresherError("that is no token: it is empty or has blanks or letters like ä in it")
    if expires_at is not None and not 0 < expires_at < importing.LATEST_INSTANT:
        raise RefresherError("--expires-at is no time in unix seconds")

    async def ask() -> Any:
        async with calling(settings) as call:
            value = Secret(token)
            return await call(
                "set_token",
                name=grant,
                token=value.reveal(),
                expires_at=expires_at,
                token_type=token_type,
            )

    answer = run(ask)
    tell(answer, f"{grant}: version {answer['version']} is published", as_json=as_json)


@click.command()
@click.argument("grant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def remove(context: click.Context, grant: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Forget GRANT and its tokens, here and in Redis.

    Its refresh token is gone for good; getting it back takes a login.
    """
    settings = load_settings(context)
    if not yes:
        click.confirm(f"forget {grant} and its refresh token for good?", abort=True, err=True)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("remove", name=grant)

    tell(run(ask), f"{grant} is removed", as_json=as_json)


@click.command()
@click.argument("grant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def revoke(context: click.Context, grant: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Revoke the tokens of GRANT at its server, and forget them here and in Redis.

    The grant stays, waiting for a login. If the server does not revoke, nothing changes.
    """
    settings = load_settings(context)
    if not yes:
        click.confirm(f"revoke {grant} at its server?", abort=True, err=True)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("revoke", name=grant)

    text = f"{grant} is revoked; `refresher login {grant}` authorizes it again"
    tell(run(ask), text, as_json=as_json)


COMMANDS = (
    logins.login,
    set_token,
    status,
    show,
    refresh,
    importing.import_command,
    revoke,
    remove,
)

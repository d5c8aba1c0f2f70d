"""``refresher token``: what consumers of a grant read in Redis now."""

import json

import click

from refresher.cli.calling import as_json_option, load_completely, run
from refresher.cli.entry import Exit
from refresher.cli.saying import say
from refresher.publication.keys import Keys
from refresher.publication.server.connection import Address
from refresher.publication.server.opening import open_server
from refresher.settings.model import Settings
from refresher.settings.secret_places import Needed


@click.command()
@click.argument("grant")
@as_json_option
@click.pass_context
def token(context: click.Context, grant: str, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Print the access token of GRANT that consumers read now.

    \b
    curl -H "Authorization: Bearer $(refresher token acme)" https://api.example/

    Nothing but the token goes to stdout. Exits 1 if there is no valid token, 3 if that
    is so because the grant needs a human.
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    settings = load_completely(context.obj, needed=Needed.REDIS).settings
    published, state = run(_read_published, settings, grant)
    if "access_token" not in published:
        told = f" ({state['state']}: {state.get('reason', '-')})" if state else ""
        say(f"refresher: Redis holds no valid token for {grant}{told}", err=True)
        if "repair" in state:
            say(f"repair: {state['repair']}", err=True)
        waits = state.get("state") in {"reauthorization_required", "pending"} or (
            state.get("state") == "paused" and "next_attempt_at" not in state
        )
        context.exit(Exit.NEEDS_PERSON if waits else Exit.FAILED)
    say(json.dumps(published) if as_json else published["access_token"])


async def _read_published(settings: Settings, name: str) -> tuple[dict[str, str], dict[str, str]]:
    address = Address(
        url=settings.redis.url.reveal(),
        username=settings.redis.username,
        password=settings.redis.password,
    )
    server, keys = open_server(address), Keys(settings.redis.prefix)
    try:
        await server.find()
        token = await server.execute("HGETALL", keys.token(name))
        state = await server.execute("HGETALL", keys.status(name))
    finally:
        await server.aclose()
    return _decoded(token), _decoded(state)


def _decoded(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in fields.items()}


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


COMMANDS = (token,)

"""``refresher login``: a person's consent becomes the first tokens of a grant."""

import sys
import webbrowser
from typing import Any

import anyio
import anyio.to_thread
import click

from refresher.cli.calling import Call, as_json_option, calling, load_settings, run, tell
from refresher.cli.table import span
from refresher.clock import SystemClock
from refresher.domain.clients import Client
from refresher.domain.grants import NAME_RULE, is_valid_name
from refresher.errors import AuthorizationFailed, RefresherError
from refresher.oauth.authorization import is_loopback
from refresher.oauth.loopback import CallbackListener
from refresher.settings.commands import clean_own_environment
from refresher.settings.model import Settings


@click.command()
@click.argument("grant")
@click.option("--client", help="Make the grant for this client if it does not exist yet.")
@click.option("--redirect-uri", help="One of the client's redirect URIs. Default: the first.")
@click.option(
    "--no-browser",
    is_flag=True,
    help="Print the URL and paste back where the browser was sent: for a remote machine.",
)
@click.option(
    "--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for consent."
)
@as_json_option
@click.pass_context
def login(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grant: str,
    client: str | None,
    redirect_uri: str | None,
    no_browser: bool,  # noqa: FBT001  click's flag
    timeout: float,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Authorize GRANT in a browser and store its tokens.

    With a loopback redirect URI (http://127.0.0.1:PORT/...) the command listens there and
    finishes by itself. With any other, or --no-browser, it prints the URL and asks for
    the address the browser was sent to, or the code in it. It works beside a running
    daemon, which takes the grant up at once, and without one.
    """
    settings = load_settings(context)

    async def authorize() -> Any:
        async with calling(settings) as call:
            chosen = _chosen(redirect_uri, await _client_of(settings, call, grant, client))
            begin = {"name": grant, "client": client}
            if is_loopback(chosen) and not no_browser:
                return await _through_browser(call, begin, chosen, timeout)
            return await _through_paste(call, begin, chosen)

    _tell(run(authorize), as_json=as_json)


async def _client_of(settings: Settings, call: Call, grant: str, named: str | None) -> Client:
    """The client to authorize GRANT for; of a grant that exists the daemon knows it."""
    views = {view["name"]: view for view in (await call("status"))["grants"]}
    if grant not in views and named is None:
        raise AuthorizationFailed(
            f"there is no grant named {grant}: name its client with --client, one of "
            f"{', '.join(sorted(settings.clients)) or 'none in the settings'}"
        )
    if grant not in views and not is_valid_name(grant):
        raise AuthorizationFailed(f"the grant's name is outside the alphabet ({NAME_RULE})")
    name = views[grant]["client"] if grant in views else named
    if name is None:
        raise AuthorizationFailed(
            f"grant {grant} holds a static token: replace it with `refresher set-token {grant}`"
        )
    if named not in {None, name}:
        raise AuthorizationFailed(
            f"grant {grant} belongs to client {name}: take another name to authorize {named}"
        )
    if name not in settings.clients:
        raise AuthorizationFailed(f"there is no client {name} in the settings")
    return settings.clients[name]


def _chosen(redirect_uri: str | None, client: Client) -> str:
    """REDIRECT_URI or the client's first; an unregistered one would only fail at the server."""
    if not client.redirect_uris:
        raise AuthorizationFailed(f"client {client.name} has no redirect_uris in the settings")
    if redirect_uri is not None and redirect_uri not in client.redirect_uris:
        raise AuthorizationFailed(
            f"{redirect_uri} is not in the redirect_uris of client {client.name}: add it there "
            "and at the provider"
        )
    return redirect_uri or client.redirect_uris[0]


async def _through_browser(
    call: Call, begin: dict[str, Any], redirect_uri: str, seconds: float
) -> Any:
    listener = CallbackListener(redirect_uri)
    async with listener.listening():
        login = await call("login_begin", **begin, redirect_uri=listener.redirect_uri)
        url = login["authorization_url"]
        click.echo(f"open this address and consent:\n\n  {url}\n", err=True)
        clean_own_environment()  # a browser hands on what it gets
        await anyio.to_thread.run_sync(webbrowser.open, url)
        try:
            query = await listener.wait(seconds)
            result = await call("login_finish", login=login["login"], pasted=f"?{query}")
        except RefresherError as error:
            listener.tell("Login failed", str(error))
            raise
        listener.tell("Login done", f"Grant {begin['name']} has its tokens; close this page.")
        return result


async def _through_paste(call: Call, begin: dict[str, Any], redirect_uri: str) -> Any:
    login = await call("login_begin", **begin, redirect_uri=redirect_uri)
    click.echo(
        f"open this address and consent:\n\n  {login['authorization_url']}\n\n"
        f"then paste the address the browser was sent to ({redirect_uri}?...), or the code in it",
        err=True,
    )
    pasted = await anyio.to_thread.run_sync(_read_pasted)
    return await call("login_finish", login=login["login"], pasted=pasted)


def _read_pasted() -> str:
    stream = sys.stdin
    if stream.isatty():
        click.echo("> ", nl=False, err=True)
    try:
        return stream.readline()
    except UnicodeDecodeError:
        # Not chained: the error carries what was pasted.
        raise AuthorizationFailed("that is neither a redirected URL nor a code") from None


def _tell(grant: dict[str, Any], *, as_json: bool) -> None:
    left = span(grant["expires_at"], SystemClock().now())
    text = f"{grant['name']}: authorized, access token valid for {left}"
    tell(grant, text, as_json=as_json)
    if grant["exchange_out"]:
        click.echo(
            f"an exchange of the earlier authorization of {grant['name']} is still out: what it "
            "brings is not published",
            err=True,
        )
    if grant["refresh_token"] and grant["repair"]:
        click.echo(f"warning: {grant['reason']}: {grant['repair']}", err=True)
    if not grant["refresh_token"]:
        click.echo(
            f"warning: the server sent no refresh token, so {grant['name']} cannot be refreshed: "
            f"it is published until its end in {left}, then needs `refresher login "
            f"{grant['name']}` again; many servers send one only for a scope such as "
            "offline_access or with access_type=offline (authorization_parameters)",
            err=True,
        )

"""``refresher login``: a person's consent becomes the first tokens of a grant."""

import math
import os
import sys
from typing import Any

import anyio
import click

from refresher.cli.browser import opened
from refresher.cli.calling import Call, as_json_option, calling, load_settings, run, tell
from refresher.cli.saying import say
from refresher.cli.typed import DURATION
from refresher.clock import SystemClock
from refresher.domain.secret import Secret
from refresher.errors import (
    ControlError,
    ControlUnavailable,
    NotThisAnswer,
    RefresherError,
    kind_of,
)
from refresher.oauth.authorization import is_loopback
from refresher.oauth.loopback import CallbackListener
from refresher.ops.protocol import Fault
from refresher.threads import in_thread_of_its_own
from refresher.times import dated, duration

BACK_WITHIN = 180.0
"""Seconds a daemon may be away while a login waits: one that stops may take 45, and the next one
reads its vault."""

LOOK_EVERY = 0.5
"""Seconds between two tries to reach it."""

AWAY = {
    ControlUnavailable.__name__,
    Fault.NO_ANSWER.value,
    Fault.STOPPED.value,
}
"""What a command meets whose daemon ends."""

REPEATABLE = {"login_finish", "login_poll"}
"""What changes nothing when it is asked for once more: a code counts once, and a login that is
done says so."""


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
    "--device",
    is_flag=True,
    help="Show a code to type on another machine (RFC 8628): for a machine without a browser.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="5m",
    show_default=True,
    help="How long to wait for consent.",
)
@as_json_option
@click.pass_context
def login(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grant: str,
    client: str | None,
    redirect_uri: str | None,
    no_browser: bool,  # noqa: FBT001  click's flag
    device: bool,  # noqa: FBT001  click's flag
    timeout: float,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Authorize GRANT in a browser and store its tokens.

    With a loopback redirect URI (http://127.0.0.1:PORT/...) the command listens there and
    finishes by itself. With any other, or --no-browser, it prints the URL and asks for
    the address the browser was sent to, or the code in it. With --device, or where the client
    has a device authorization endpoint and no redirect URI, it shows a code to type on another
    machine, and waits until somebody has consented there. It works beside a running
    daemon, which takes the grant up at once, and without one. A pause of GRANT is over with it.
    """
    settings = load_settings(context)

    async def authorize() -> Any:
        async with calling(settings) as reached:
            call = outliving(reached, grant)
            asked = {"name": grant, "client": client}
            if device:
                return await _through_device(call, asked)
            target = await call("login_target", **asked, redirect_uri=redirect_uri)
            if target["redirect_uri"] is None:
                return await _through_device(call, asked)
            if is_loopback(target["redirect_uri"]) and not no_browser:
                return await through_browser(call, asked, target["redirect_uri"], timeout)
            return await through_paste(call, asked, target["redirect_uri"])

    _tell(run(authorize), as_json=as_json)


def outliving(call: Call, grant: str) -> Call:
    """CALL for a login of GRANT, which outlives its daemon: the next one finishes it."""

    async def asked(operation: str, **parameters: Any) -> Any:
        with anyio.CancelScope() as waiting:
            while True:
                try:
                    return await call(operation, **parameters)
                except (ControlUnavailable, ControlError) as error:
                    if operation not in REPEATABLE or kind_of(error) not in AWAY:
                        raise
                    if waiting.deadline == math.inf:
                        say(f"{error}; the login is in its vault: waiting for a daemon", err=True)
                        waiting.deadline = anyio.current_time() + BACK_WITHIN
                    await anyio.sleep(LOOK_EVERY)
        raise RefresherError(
            f"no daemon has answered for {duration(BACK_WITHIN)}: once one runs, `refresher status "
            f"{grant}` says whether this login counts; if it does not, start it again"
        )

    return asked


async def through_browser(
    call: Call, asked: dict[str, Any], redirect_uri: str, seconds: float
) -> Any:
    """Let a person consent in a browser of this machine, whose redirect is listened for.

    Args:
        asked: parameters of ``login_begin`` that say what the login is for.
        seconds: how long to wait for consent.
    """
    listener = CallbackListener(redirect_uri)
    async with listener.listening():
        login = await call("login_begin", **asked, redirect_uri=listener.redirect_uri)
        listener.expect(Secret(login["state"]))
        url = login["authorization_url"]
        say(f"open this address and consent:\n\n  {url}\n", err=True)
        try:
            async with opened(url):
                query = await listener.wait(seconds)
            result = await call("login_finish", login=login["login"], pasted=f"?{query}")
        except RefresherError as error:
            listener.tell("Login failed", str(error))
            raise
        listener.tell("Login done", f"Grant {asked['name']} has its tokens; close this page.")
        return result


async def through_paste(call: Call, asked: dict[str, Any], redirect_uri: str) -> Any:
    """Let a person consent in any browser, and paste where it was sent."""
    login = await call("login_begin", **asked, redirect_uri=redirect_uri)
    say(
        f"open this address and consent:\n\n  {login['authorization_url']}\n\n"
        f"then paste the address the browser was sent to ({redirect_uri}?...), or the code in it",
        err=True,
    )
    while True:
        try:
            pasted = await in_thread_of_its_own(_read_pasted)
        except anyio.get_cancelled_exc_class():
            if sys.stdin.isatty():
                click.echo(err=True)  # ends the line that nobody has answered
            raise
        try:
            return await call("login_finish", login=login["login"], pasted=pasted)
        except RefresherError as error:
            # Without a line nobody is there to paste another one.
            if not pasted or kind_of(error) != NotThisAnswer.__name__:
                raise
            say(f"{error}; the login goes on: paste again", err=True)


async def _through_device(call: Call, asked: dict[str, Any]) -> Any:
    """Show the code, then ask at the daemon's pace until somebody has typed it and consented."""
    login = await call("login_device", **asked)
    say(
        f"on any machine open\n\n  {login['verification_uri']}\n\nand type the code\n\n"
        f"  {login['user_code']}\n",
        err=True,
    )
    if login["verification_uri_complete"]:
        say(f"or open this address, which has it: {login['verification_uri_complete']}\n", err=True)
    say(f"waiting for the consent, for up to {duration(login['expires_in'])}", err=True)
    answer = login
    while answer["wait"] is not None:
        await anyio.sleep(answer["wait"])
        answer = await call("login_poll", login=login["login"])
    return answer["grant"]


def _read_pasted() -> str:
    """A line of stdin, read past its buffer: Ctrl-C leaves this thread, and whatever it locked."""
    if sys.stdin.isatty():
        click.echo("> ", nl=False, err=True)
    line = b""
    while not line.endswith(b"\n") and (more := os.read(sys.stdin.fileno(), 1)):
        line += more
    try:
        return line.decode()
    except UnicodeDecodeError:
        # Not chained: the error carries what was pasted.
        raise NotThisAnswer("that is neither a redirected URL nor a code") from None


def _tell(grant: dict[str, Any], *, as_json: bool) -> None:
    end, now = grant["expires_at"], SystemClock().now()
    left = "as long as the server says" if end is None else f"until {dated(end, now)}"
    by = f" by {grant['authorized_by']}" if grant["authorized_by"] else ""
    text = f"{grant['name']}: authorized{by}, access token valid {left}"
    tell(grant, text, as_json=as_json)
    if grant["account_before"]:
        say(
            f"warning: {grant['name']} was authorized by {grant['account_before']} before: its "
            "consumers get tokens of another account now; if that is a mistake, log in again",
            err=True,
        )
    if grant["exchange_out"]:
        say(
            f"an exchange of the earlier authorization of {grant['name']} is still out: what it "
            "brings is not published",
            err=True,
        )
    if grant["refresh_token"] and grant["repair"]:
        say(f"warning: {grant['reason']}: {grant['repair']}", err=True)
    if not grant["refresh_token"]:
        say(
            f"warning: the server sent no refresh token, so {grant['name']} cannot be refreshed: "
            f"it is published {left}, then needs `refresher login "
            f"{grant['name']}` again; many servers send one only for a scope such as "
            "offline_access or with access_type=offline (authorization_parameters)",
            err=True,
        )


COMMANDS = (login,)

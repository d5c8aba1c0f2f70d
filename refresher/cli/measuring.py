"""``refresher providers measure``: what a server really does, on grants made to be thrown away."""

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import anyio
import click

from refresher import logs
from refresher.cli.calling import as_json_option, load_completely, run
from refresher.cli.logins import through_browser, through_paste
from refresher.cli.measured import entry_lines, settings_to_paste, told
from refresher.cli.providers import span
from refresher.cli.saying import say
from refresher.cli.typed import DURATION
from refresher.clock import SystemClock
from refresher.domain.clients import Client
from refresher.domain.completion import completed
from refresher.domain.discovery import Known
from refresher.domain.failed_logins import explained
from refresher.domain.logins import AwaitedAnswer
from refresher.domain.outcomes import NotSent, Outcome, Refreshed, TokenAnswer, Transient
from refresher.domain.urls import endpoint_fault
from refresher.errors import AuthorizationFailed, RefresherError
from refresher.logs import libraries
from refresher.oauth import authorization
from refresher.oauth.authorization import Callback, is_loopback
from refresher.oauth.measuring.experiments import (
    MOST_LOGINS,
    MOST_LOGINS_WITHOUT_REVOCATION,
    Experiments,
)
from refresher.oauth.measuring.judgement import conclude
from refresher.oauth.measuring.liveness import Liveness, Places, discovered
from refresher.oauth.measuring.wire import WiredServer
from refresher.oauth.metadata import discover
from refresher.oauth.patience import Patience
from refresher.oauth.pushed_authorization import push
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.providers import Provider, find_provider
from refresher.settings.model import Settings

CLEANED_WITHIN = 60.0
"""Seconds for revoking what was made, also after Ctrl-C."""

LONGEST_WAIT = 86_400.0

CODE_DEADLINE = 30.0
"""Seconds the exchange of a code may take."""

CODE_PAUSES = (1.0, 5.0, 15.0)
"""Seconds before a code is sent again that a rate limit kept from being taken."""


@click.command("measure")
@click.argument("name", metavar="CLIENT")
@click.option(
    "--wait",
    type=DURATION,
    default="10m",
    show_default=True,
    help="How long a used refresh token is tried in all; longer windows are told as at least.",
)
@click.option(
    "--probe",
    metavar="URL",
    help="What takes an access token (GET, Bearer), to see whether one still lives, where the "
    "server has neither introspection nor userinfo.",
)
@click.option("--redirect-uri", help="One of the client's redirect URIs. Default: the first.")
@click.option(
    "--no-browser",
    is_flag=True,
    help="Print each URL and paste back where the browser was sent: for a remote machine.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="5m",
    show_default=True,
    help="How long to wait for each consent.",
)
@as_json_option
@click.pass_context
def measure(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    name: str,
    wait: float,
    probe: str | None,
    redirect_uri: str | None,
    no_browser: bool,  # noqa: FBT001  click's flag
    timeout: float,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Measure what the server of CLIENT does with refresh tokens.

    It asks for one to five logins and makes a grant with each, to be thrown away: it reuses
    refresh tokens and revokes what it made, which ends those grants. No grant of a consumer
    is touched, nothing is stored or published. Log in with an account that no consumer's
    grant belongs to: some servers end all of an account for one reuse.

    It prints what was seen, an entry for the catalogue, and the settings to paste. What
    cannot be told is said. Ctrl-C ends it, and revokes what it made.
    """
    settings = load_completely(context.obj).settings
    logs.configure(level="error", output=sys.stderr)
    libraries.take_over()
    client = _client(settings, name)
    chosen = _redirect_uri(client, redirect_uri)
    if probe is not None and (fault := endpoint_fault(probe, allow_plain_http=False)):
        raise click.BadParameter(fault, context, param_hint="--probe")
    is_pasted = no_browser or not is_loopback(chosen)

    async def work() -> dict[str, Any]:
        async with TokenEndpoint() as endpoint:
            whole = await _completed(endpoint, client)
            logins = _Logins(endpoint, whole)

            async def log_in(purpose: str) -> TokenAnswer:
                say(f"{purpose}:", err=True)
                asked = {"name": "to be thrown away"}
                if is_pasted:
                    answer: TokenAnswer = await through_paste(logins.call, asked, chosen)
                else:
                    answer = await through_browser(logins.call, asked, chosen, timeout)
                return answer

            server = await _server(endpoint, whole, probe, chosen, log_in)
            _announce(whole, server, min(wait, LONGEST_WAIT))
            return await _measured(server, min(wait, LONGEST_WAIT))

    result = run(work)
    say(json.dumps(result) if as_json else _shown(result))


async def _measured(server: WiredServer, wait: float) -> dict[str, Any]:
    """What SERVER does; whatever happens, what was made is revoked where it can be."""
    experiments = Experiments(server, wait=wait, tell=lambda line: say(line, err=True))
    left = 0
    try:
        await experiments.run()
    finally:
        with anyio.move_on_after(CLEANED_WITHIN, shield=True):
            left = len(experiments.evidence.grants)
            left = await experiments.clean_up()
        _say_left(len(experiments.evidence.grants), left)
    evidence = experiments.evidence
    conclusion = conclude(evidence)
    today = datetime.fromtimestamp(server.clock.now(), UTC).date()
    client = server.revoking()
    provider = None if client.provider is None else find_provider(client.provider)
    return {
        "client": client.name,
        "measured": today.isoformat(),
        "logins": len(evidence.grants),
        "left_at_the_provider": left,
        "asked_by": server.liveness.asked,
        "rotation": None if conclusion.rotation is None else str(conclusion.rotation),
        "findings": [asdict(finding) for finding in conclusion.findings],
        "dead": [{"why": why, **asdict(said)} for why, said in conclusion.dead],
        "remarks": [*evidence.remarks, *filter(None, [server.liveness.told])],
        "entry": "\n".join(entry_lines(client, provider, conclusion, evidence, today=today)),
        "settings": "\n".join(settings_to_paste(client, conclusion)),
    }


async def _completed(endpoint: TokenEndpoint, client: Client) -> Client:
    """CLIENT with what its server tells of itself, where the settings leave that to it.

    Raises:
        RefresherError: something is still missing; says what.
    """
    wanted = client.discovery
    if wanted is not None and (wanted.issuer or wanted.resource):
        metadata = await discover(endpoint, client, SystemClock().now())
        client = completed(client, Known(metadata=metadata))
    if not client.client_id:
        raise RefresherError(
            f"client {client.name} has no client_id in the settings: a server is measured with one "
            "that is registered for that"
        )
    return client


def _client(settings: Settings, name: str) -> Client:
    client = settings.clients.get(name)
    if client is None:
        known = ", ".join(sorted(settings.clients)) or "none"
        raise RefresherError(f"there is no client {name} in the settings: there are {known}")
    if not client.redirect_uris:
        raise RefresherError(f"client {name} has no redirect_uris in the settings: set one")
    return client


def _redirect_uri(client: Client, given: str | None) -> str:
    chosen = given or client.redirect_uris[0]
    if not authorization.is_registered(chosen, client.redirect_uris):
        raise RefresherError(
            f"{chosen} is not in the redirect_uris of client {client.name}: add it there and at "
            "the provider"
        )
    return chosen


async def _server(
    endpoint: TokenEndpoint,
    client: Client,
    probe: str | None,
    redirect_uri: str,
    log_in: Callable[[str], Awaitable[TokenAnswer]],
) -> WiredServer:
    """The server of CLIENT, with whatever its metadata name."""
    provider: Provider | None = None if client.provider is None else find_provider(client.provider)
    discovery = provider.facts.discovery if provider else None
    documents = (discovery,) if discovery and discovery.startswith("https:") else ()
    found = await discovered(endpoint, client, documents)
    places = Places(
        introspection=client.endpoints.introspection or found.get("introspection_endpoint"),
        userinfo=found.get("userinfo_endpoint"),
        revocation=found.get("revocation_endpoint"),
        probe=probe,
    )
    return WiredServer(
        endpoint=endpoint,
        client=client,
        clock=SystemClock(),
        liveness=Liveness(endpoint=endpoint, client=client, places=places),
        make_login=log_in,
        redirect_uri=redirect_uri,
    )


def _announce(client: Client, server: WiredServer, wait: float) -> None:
    most = MOST_LOGINS if server.can_revoke else MOST_LOGINS_WITHOUT_REVOCATION
    places = server.liveness.places
    ways = [way for way in ("probe", "introspection", "userinfo") if getattr(places, way)]
    asked = f"by {' or '.join(ways)}" if ways else "by nothing: name a URL with --probe"
    revoking = "" if server.can_revoke else "no way to revoke is known; "
    say(
        f"measuring {client.endpoints.token} with client {client.name}: 1 to {most} logins, each "
        f"for a grant to be thrown away, and up to {span(wait)} of waiting\n"
        f"whether an access token lives is asked {asked}; {revoking}Ctrl-C ends all\n"
        "log in with an account that no consumer's grant belongs to: some servers end all of an "
        "account's grants for one reuse\n",
        err=True,
    )


def _say_left(made: int, left: int) -> None:
    if not made:
        return
    if left:
        say(
            f"{left} of {made} grants may be left at the provider: remove them there, in the "
            "account that logged in",
            err=True,
        )
    else:
        say("nothing is left at the provider: every grant is revoked or refused", err=True)


def _shown(result: dict[str, Any]) -> str:
    return "\n".join(
        [
            *told(result),
            "",
            "An entry for the catalogue:",
            "",
            result["entry"],
            "",
            "Settings to paste:",
            "",
            result["settings"],
        ]
    )


class _Logins:
    """The operations of a login for a client alone: what it brings is kept nowhere."""

    def __init__(self, endpoint: TokenEndpoint, client: Client) -> None:
        self._endpoint = endpoint
        self._client = client
        self._open: dict[str, AwaitedAnswer] = {}

    async def call(self, operation: str, **parameters: Any) -> Any:
        """As the daemon's operations are called."""
        if operation == "login_begin":
            return await self._begin(parameters["redirect_uri"])
        return await self._finish(parameters["login"], parameters["pasted"])

    async def _begin(self, redirect_uri: str) -> dict[str, str]:
        client = self._client
        request = authorization.begin(client, redirect_uri=redirect_uri, scope=client.scope)
        if client.quirks.require_pushed_authorization_requests:
            request = await push(self._endpoint, client, request)
        login = str(len(self._open))
        self._open[login] = request.awaited
        state = request.awaited.state.reveal()
        return {"login": login, "state": state, "authorization_url": request.url}

    async def _finish(self, login: str, pasted: str) -> TokenAnswer:
        client, awaited = self._client, self._open[login]
        callback = authorization.read_callback(awaited, pasted)
        if not callback.names_issuer and client.endpoints.promises_issuer:
            raise AuthorizationFailed(
                "the server's metadata promise that an answer names it (iss), and this one does not"
            )
        outcome = await self._redeem(awaited, callback)
        for pause in CODE_PAUSES:
            if not (isinstance(outcome, Transient) and outcome.is_own_word):
                break
            await anyio.sleep(max(pause, outcome.retry_after or 0.0))
            outcome = await self._redeem(awaited, callback)
        if not isinstance(outcome, Refreshed):
            raise AuthorizationFailed(explained(outcome, client))
        return outcome.answer

    async def _redeem(self, awaited: AwaitedAnswer, callback: Callback) -> Outcome:
        outcome: Outcome = NotSent(reason="cancelled")
        with anyio.CancelScope(shield=True):
            outcome = await self._endpoint.redeem(
                self._client,
                callback.code,
                redirect_uri=awaited.redirect_uri,
                code_verifier=awaited.code_verifier,
                patience=Patience(CODE_DEADLINE),
            )
        return outcome  # noqa: RET504  for all that mypy knows the scope may end it


COMMANDS = (measure,)

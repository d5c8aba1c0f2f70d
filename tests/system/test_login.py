"""``refresher login`` on real processes, the test being the person at the browser."""

import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from refresher.sandbox import SandboxOptions, Status, TokenPolicy
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.browser import (
    Browser,
    LoginCommand,
    parameters,
    visit,
    where_it_leads,
    with_parameters,
)
from tests.system.world import World, new_world

ELSEWHERE = "https://app.example/oauth/callback"
"""A redirect URI nobody on this machine listens on."""

AT_ONCE = 2.0
"""Seconds from the end of a login to a token that can be read."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("login")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600, names_issuer=True
    )
    with new_world(folder, canary, options) as world:
        register = world.server.sandbox.register
        remote = world.server.call(register, redirect_uris=[ELSEWHERE])
        policy = TokenPolicy(refresh_token_at_authorization=False, access_token_lifetime=3600)
        brief = world.server.call(register, policy=policy)
        clients = [
            world.client("web"),
            world.client("wrong", secret=canary.plant("wrong-secret")),
            world.client("named", more=f'issuer = "{world.server.sandbox.base_url}"'),
            world.client("accounts", more='scope = "openid read"'),
            world.client(
                "remote",
                client_id=remote.client_id,
                secret=remote.client_secret,
                redirect_uri=ELSEWHERE,
            ),
            world.client("brief", client_id=brief.client_id, secret=brief.client_secret),
            "[grants.hand-made]\nstatic_token = { file = 'static.secret' }",
        ]
        world.secret_file("static.secret", canary.plant("static-token"))
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join(clients))
        world.daemon.start()
        yield world


def assert_published(world: World, name: str) -> None:
    """The token of NAME can be read at once, and is good."""
    wait_until(lambda: world.token(name), description=f"{name} can be read")
    token = world.token(name)
    bearer = f"Bearer {token['access_token']}"
    assert world.server.call(world.server.sandbox._server.bearer, bearer) is not None
    world.await_state(name, "fresh")


def test_the_browser_finishes_the_login(world: World, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    login = LoginCommand(
        world.daemon, "by-browser", "--client", "web", browser=str(browser.program)
    )
    assert browser.leads_to() == login.url
    browser.close()
    page = visit(login.url)
    said = login.finish()
    assert "Grant by-browser has its tokens; close this page." in page
    assert re.search(
        r"by-browser: authorized, access token valid until 20\S+Z \(in \d+ min\)", said
    )
    assert_published(world, "by-browser")
    [line] = [
        one for one in world.daemon.events("grant.authorized") if one["grant"] == "by-browser"
    ]
    assert line["version"] == int(world.token("by-browser")["version"])


def test_only_a_good_login_replaces_the_tokens(world: World) -> None:
    tokens = []
    for good in (True, False, True):
        login = LoginCommand(world.daemon, "repeated", "--client", "web", "--no-browser")
        if good:
            login.finish(where_it_leads(login.url) + "\n")
        else:
            login.finish("not-a-code\n", code=1)
        assert_published(world, "repeated")
        tokens.append(world.token("repeated"))
    assert tokens[0] == tokens[1]
    assert int(tokens[0]["version"]) < int(tokens[2]["version"])


def test_a_pasted_address_finishes_the_login(world: World) -> None:
    login = LoginCommand(world.daemon, "by-address", "--client", "remote")
    address = where_it_leads(login.url)
    assert address.startswith(ELSEWHERE)
    said = login.finish(f"  {address}\n")
    assert f"then paste the address the browser was sent to ({ELSEWHERE}?...)" in said
    assert_published(world, "by-address")


def test_a_wrong_paste_can_be_mended(world: World) -> None:
    login = LoginCommand(world.daemon, "mended", "--client", "remote")
    right = where_it_leads(login.url)
    said = login.finish(f"{ELSEWHERE}?code=C&state=other\nno code\n{right}\n")
    assert said.count("the login goes on: paste again") == 2
    assert_published(world, "mended")


def test_a_pasted_code_finishes_the_login(world: World) -> None:
    login = LoginCommand(world.daemon, "by-code", "--client", "web", "--no-browser")
    login.finish(parameters(where_it_leads(login.url))["code"] + "\n")
    assert_published(world, "by-code")


def test_a_login_needs_no_daemon(world: World) -> None:
    assert world.daemon.stop() == 0
    try:
        login = LoginCommand(world.daemon, "alone", "--client", "web")
        visit(login.url)
        login.finish()
        assert_published(world, "alone")
        version = world.token("alone")["version"]
    finally:
        world.daemon.start()
    assert world.token("alone")["version"] == version


def test_a_login_outlives_its_daemon(world: World) -> None:
    """It is killed while the person consents, and the answer comes before the next one is up."""
    login = LoginCommand(world.daemon, "outliving", "--client", "web")
    world.daemon.kill()
    try:
        with ThreadPoolExecutor(1) as threads:
            page = threads.submit(visit, login.url)
            wait_until(
                lambda: "waiting for a daemon" in login.said, description="the command waits"
            )
            world.daemon.start()
            login.finish()
            assert "Grant outliving has its tokens; close this page." in page.result(PATIENCE)
    finally:
        if world.daemon.process is None or world.daemon.process.poll() is not None:
            world.daemon.start()
    assert_published(world, "outliving")


def test_a_refusal_is_told_to_everybody(world: World) -> None:
    login = LoginCommand(world.daemon, "refused", "--client", "web")
    page = visit(with_parameters(login.url, decision="deny"))
    said = login.finish(code=1)
    told = "the account, or its owner, refused the access (access_denied)"
    assert f"refresher: {told}\n" in said
    assert "Login failed" in page
    assert told in page.replace("&#x27;", "'")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nobody_else_sees_where_the_browser_is_led(world: World, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    login = LoginCommand(
        world.daemon, "unseen", "--client", "web", browser=browser.program, is_listed=True
    )
    assert browser.leads_to() == login.url
    [given] = (tmp_path / "given").read_text().split()
    page = Path(given.removeprefix("file://"))
    told = command_lines()
    assert str(page) in told
    for secret in (parameters(login.url)[name] for name in ("state", "code_challenge")):
        assert secret not in told
    assert (page.stat().st_mode & 0o777, page.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    browser.close()
    visit(login.url)
    login.finish()
    assert not page.parent.exists()


def command_lines() -> str:
    """What every process was started with, as every user of the machine can read it."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" "))
    return b"\n".join(lines).decode(errors="replace")


def test_strangers_do_not_end_a_login(world: World) -> None:
    login = LoginCommand(world.daemon, "beset", "--client", "web")
    asked = parameters(login.url)
    listener, state = asked["redirect_uri"], asked["state"]
    code = world.canary.plant("code")
    for query in (
        "error=access_denied",
        f"code={code}&state=of-another-login",
        f"error=access_denied&state={state[:-1]}",
        f"code={code}&state={state}&state=of-another-login",
    ):
        assert status_of(f"{listener}?{query}") == 400
    assert status_of(f"{listener}?code={code}&state={state}", host="evil.example") == 400
    assert status_of(f"{listener}?code={code}&state={state}", method="POST") == 405
    page = visit(login.url)
    login.finish()
    assert "Grant beset has its tokens" in page
    assert_published(world, "beset")


def status_of(url: str, *, host: str | None = None, method: str = "GET") -> int:
    """What somebody else's browser, or program, is answered."""
    headers = {} if host is None else {"Host": host}
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310  loopback
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310  loopback
    refused.value.close()
    return refused.value.code


@pytest.mark.parametrize("pasted", [False, True], ids=["browser", "pasted"])
@pytest.mark.parametrize(
    ("iss", "told"),
    [
        (None, "promise that an answer names it (iss), and this one does not"),
        ("https://other.example", "the answer names another issuer than"),
    ],
)
def test_an_answer_of_another_server_is_refused(
    world: World, iss: str | None, told: str, *, pasted: bool
) -> None:
    arguments = ("named", "--client", "named", *(("--no-browser",) if pasted else ()))
    login = LoginCommand(world.daemon, *arguments)
    address = where_it_leads(login.url)
    assert parameters(address)["iss"] == world.server.sandbox.base_url
    address = with_parameters(address, **({"iss": iss} if iss else {}))
    address = address if iss else address.partition("&iss=")[0]
    page = "" if pasted else visit(address)
    said = login.finish(f"{address}\n" if pasted else "", code=1)
    assert told in said
    assert pasted or "Login failed" in page
    assert world.token("named") == {}


def test_an_answer_of_the_server_that_was_asked_is_taken(world: World) -> None:
    login = LoginCommand(world.daemon, "asked", "--client", "named")
    visit(login.url)
    login.finish()
    assert_published(world, "asked")


def test_the_account_that_authorized_is_named(world: World) -> None:
    said = []
    for account in ("owner", "owner", "guest"):
        login = LoginCommand(world.daemon, "account", "--client", "accounts")
        visit(with_parameters(login.url, login_hint=account))
        said.append(login.finish())
    assert "account: authorized by owner@sandbox.example, access token valid until" in said[0]
    assert "account: authorized by guest@sandbox.example" in said[2]
    warning = "warning: account was authorized by owner@sandbox.example before"
    assert [warning in one for one in said] == [False, False, True]
    wait_until(
        lambda: len(world.daemon.events("grant.account_changed")) == 1,
        description="the log says it once",
    )
    shown = json.loads(world.daemon.command("status", "account", "--json").stdout)
    assert "guest@sandbox.example" in json.dumps(shown)


def test_each_wrong_paste_is_explained(world: World) -> None:
    wrong = [
        ("{redirect}?state={state}", "carries no code"),
        ("{redirect}?code=&state={state}", "carries no code"),
        ("{url}", "does not begin with the redirect URI"),
        ("two words", "neither a redirected URL nor a code"),
        ("", "neither a redirected URL nor a code"),
        (world.canary.plant("code"), "refused the code (invalid_grant)"),
    ]

    def try_one(pasted: str) -> str:
        login = LoginCommand(world.daemon, "pasted", "--client", "web", "--no-browser")
        asked = parameters(login.url)
        redirect, state = asked["redirect_uri"], asked["state"]
        return login.finish(pasted.format(redirect=redirect, state=state, url=login.url), code=1)

    with ThreadPoolExecutor(2) as threads:
        for (pasted, told), said in zip(
            wrong, threads.map(try_one, [pasted for pasted, _ in wrong]), strict=True
        ):
            assert told in said, pasted
    assert world.token("pasted") == {}


def test_nobody_coming_back_ends_the_login(world: World) -> None:
    login = LoginCommand(world.daemon, "waiting", "--client", "web", "--timeout", "1")
    said = login.finish(code=1)
    assert "nobody came back from the authorization within 1 s" in said


def test_a_port_in_use_is_named(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        uri = f"http://127.0.0.1:{port}/callback"
        chosen = ("--client", "web", "--redirect-uri", uri)
        done = world.daemon.command("login", "g", *chosen, check=1)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use" in done.stderr
    assert "--no-browser" in done.stderr


def test_a_rejected_client_is_named(world: World) -> None:
    login = LoginCommand(world.daemon, "rejected", "--client", "wrong", "--no-browser")
    said = login.finish(where_it_leads(login.url) + "\n", code=1)
    assert "the server refused client wrong itself (invalid_client): check client_id" in said


def test_a_failing_server_is_not_our_fault(world: World) -> None:
    login = LoginCommand(world.daemon, "failing", "--client", "web", "--no-browser")
    world.server.call(world.server.sandbox.faults.enqueue, Status(code=503))
    said = login.finish(where_it_leads(login.url) + "\n", code=1)
    assert "the exchange of the code failed" in said
    assert "start the login again" in said


def test_tokens_without_refresh_are_published_with_a_warning(world: World) -> None:
    login = LoginCommand(world.daemon, "brief", "--client", "brief")
    visit(login.url)
    said = login.finish()
    assert "warning: the server sent no refresh token" in said
    assert_published(world, "brief")
    assert world.status("brief")["reason"] == "no_refresh_token"
    assert world.status("brief")["repair"].startswith("refresher login brief, with what makes")
    shown = world.daemon.command("status", "brief")
    assert "    refresher login brief\n" in shown.stdout
    assert "with what makes the server of client brief give a refresh token" in shown.stdout


def test_a_login_that_cannot_begin_says_why(world: World) -> None:
    unregistered = ("new", "--client", "web", "--redirect-uri", ELSEWHERE)
    reasons = {
        ("nobody",): "there is no grant named nobody: name its client with --client, one of",
        ("new", "--client", "none"): "there is no client none in the settings",
        unregistered: f"{ELSEWHERE} is not in the redirect_uris of client web",
        ("hand-made",): "replace it with `refresher set-token hand-made`",
        ("kept", "--client", "remote"): "grant kept belongs to client web",
    }
    world.import_grants(
        {"name": "kept", "client": "web", "refresh_token": world.server.refresh_tokens(1)[0]}
    )

    def try_one(arguments: tuple[str, ...]) -> str:
        return world.daemon.command("login", *arguments, check=1).stderr

    with ThreadPoolExecutor(2) as threads:
        for told, said in zip(reasons.values(), threads.map(try_one, reasons), strict=True):
            assert told in said

"""Each kind of grant from end to end: settings, (login), refresh, published; and its faults."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from refresher.sandbox import DropAfter, Raw, SandboxOptions
from refresher.sandbox.manners import Manners
from tests.canary import Canary
from tests.support.signing import key_pair, service_account
from tests.support.waiting import PATIENCE, wait_until
from tests.system.browser import LoginCommand
from tests.system.world import World, new_world

ROBOT = "robot@project.example"

SETTINGS = """
[clients.service]
token_endpoint = "{base_url}/token"
client_id = "{client_id}"
client_secret = {{ file = "service.secret" }}

[clients.google]
client_private_key = {{ file = "account.json" }}

[clients.box]
token_endpoint = "{base_url}/token"
device_authorization_endpoint = "{base_url}/device_authorization"
client_id = "box"
client_authentication = "none"

[grants.service]
client = "service"
grant_type = "client_credentials"
scope = "read"
audience = "billing"
labels = {{ site = "hall" }}

[grants.robot]
client = "google"
grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer"
scope = "drive"

[grants.person]
client = "google"
grant_type = "jwt_bearer"
subject = "somebody@acme.example"

[grants.stranger]
client = "google"
grant_type = "jwt_bearer"
subject = "stranger@acme.example"

[grants.billing]
client = "service"
grant_type = "token_exchange"
subject = "user"
audience = ["billing", "stock"]
"""


def refuses(error: str) -> Raw:
    """One answer that says ERROR, whatever was asked."""
    return Raw(
        status=400,
        body=f'{{"error": "{error}"}}'.encode(),
        headers={"Content-Type": "application/json"},
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kinds")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        access_token_lifetime=3600,
        audiences=("billing", "stock"),
        refused_subjects=("stranger@acme.example",),
        device_interval=0.2,
    )
    with new_world(folder, canary, options) as world:
        base_url = world.server.sandbox.base_url
        world.server.call(
            world.server.sandbox.register, client_id=ROBOT, public=True, public_key=key_pair()[1]
        )
        world.server.call(
            world.server.sandbox.register, client_id="tv", client_secret=options.client_secret
        )
        world.server.call(world.server.sandbox.register, client_id="box", public=True)
        world.secret_file("service.secret", options.client_secret)
        world.secret_file("account.json", service_account(ROBOT, f"{base_url}/token"))
        world.daemon.prepare(
            redis_url=world.valkey.url,
            clients=SETTINGS.format(base_url=base_url, client_id=options.client_id)
            + world.client(
                "tv",
                client_id="tv",
                more=f'device_authorization_endpoint = "{base_url}/device_authorization"',
            ),
        )
        world.daemon.start()
        yield world


def published(world: World, name: str, *, above: int = 0) -> dict[str, str]:
    """What consumers read of NAME, once its version is above ABOVE."""
    wait_until(
        lambda: int(world.token(name).get("version", 0)) > above,
        description=f"{name} is published above {above}: {world.status(name)}",
    )
    return world.token(name)


def bearer(world: World, name: str) -> tuple[str, str]:
    """Whom the published token of NAME speaks for at its server, and what it permits."""
    request = urllib.request.Request(  # noqa: S310  loopback
        world.server.sandbox.resource_url,
        headers={"Authorization": f"Bearer {published(world, name)['access_token']}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  loopback
        told = json.loads(response.read())
    return told["subject"], told["scope"]


def test_a_client_gets_a_token_of_its_own_and_refreshes_it(world: World) -> None:
    first = published(world, "service")
    assert (first["scope"], first["label.site"]) == ("read", "hall")
    assert bearer(world, "service") == (world.server.sandbox.options.client_id, "read")
    world.daemon.command("refresh", "service")
    second = published(world, "service", above=int(first["version"]))
    assert second["access_token"] != first["access_token"]
    world.await_state("service", "fresh")


def test_a_consumer_that_was_refused_gets_a_new_one(world: World) -> None:
    before = published(world, "robot")
    with world.valkey.client() as redis:
        redis.set("refresher:rejected:robot", before["version"], ex=300)
    published(world, "robot", above=int(before["version"]))


def test_a_service_account_signs_for_itself_and_for_others(world: World) -> None:
    assert bearer(world, "robot") == (ROBOT, "drive")
    assert bearer(world, "person")[0] == "somebody@acme.example"


def test_a_refused_assertion_is_told_and_asked_for_again(world: World) -> None:
    wait_until(
        lambda: world.status("stranger").get("reason", "").startswith("refused"),
        description="the refusal is published",
    )
    status = world.status("stranger")
    assert status["state"] == "pending"
    assert "client_private_key" in status["repair"]
    assert float(status["next_attempt_at"]) > 0
    [told] = [each for each in world.daemon.events("grant.doubted") if each["grant"] == "stranger"]
    assert told["repair"] == status["repair"]
    assert "login" not in told["repair"]


def test_a_lost_answer_costs_one_more_request_and_nothing_else(world: World) -> None:
    before = published(world, "service")
    world.server.call(world.server.sandbox.faults.enqueue, DropAfter())
    world.daemon.command("refresh", "service")
    published(world, "service", above=int(before["version"]))
    world.await_state("service", "fresh")


def test_an_exchange_follows_its_subject_and_says_when_it_is_gone(world: World) -> None:
    wait_until(
        lambda: world.status("billing").get("reason") == "subject_missing:user",
        description="the exchange says what it waits for",
    )
    assert "refresher status user" in world.status("billing")["repair"]
    for subject in ("anna", "bert"):
        minted = world.server.call(world.server.sandbox.mint, client_id="tv", subject=subject)
        line = {"name": "user", "client": "tv", "refresh_token": minted.refresh_token}
        world.daemon.command("import", "-", text=json.dumps(line))
        wait_until(
            lambda subject=subject: bearer(world, "billing")[0] == subject,  # type: ignore[misc]  # mypy takes no default of a lambda
            description=f"it is exchanged for {subject}'s",
        )
    before = world.token("billing")
    world.daemon.command("remove", "user", "--yes")
    world.daemon.command("refresh", "billing")
    wait_until(
        lambda: world.status("billing").get("reason") == "subject_missing:user",
        description="the exchange says that its subject is gone",
    )
    assert world.token("billing")["access_token"] == before["access_token"], "it lives to its end"


def test_a_server_that_is_away_costs_nothing(world: World) -> None:
    before = published(world, "service")
    with world.server.away():
        world.daemon.command("refresh", "service")
        wait_until(
            lambda: world.status("service").get("reason", "").startswith("unreachable"),
            description="the outage is told",
        )
        assert world.token("service") == before
    published(world, "service", above=int(before["version"]))


def decide(world: World, login: LoginCommand, *, approve: bool) -> None:
    """Open what LOGIN shows on another machine, and consent or not."""
    [address] = [word for word in login.said.split() if "user_code=" in word]
    code = address.partition("user_code=")[2]
    world.server.call(world.server.sandbox.decide_device, code, approve=approve)


def test_a_code_on_another_machine_authorizes_a_grant(world: World) -> None:
    login = LoginCommand(world.daemon, "sofa", "--client", "tv", "--device")
    assert login.url.endswith("/device")
    polls = len(world.server.sandbox.log)
    wait_until(lambda: len(world.server.sandbox.log) > polls, description="it polls")
    decide(world, login, approve=True)
    assert "sofa: authorized" in login.finish()
    first = published(world, "sofa")
    assert bearer(world, "sofa")[0] == "owner"
    world.daemon.command("refresh", "sofa")
    published(world, "sofa", above=int(first["version"]))


def test_a_code_on_another_machine_outlives_the_daemon(world: World) -> None:
    login = LoginCommand(world.daemon, "cellar", "--client", "tv", "--device")
    world.daemon.kill()
    wait_until(lambda: "waiting for a daemon" in login.said, description="the command waits")
    decide(world, login, approve=True)
    world.daemon.start()
    assert "cellar: authorized" in login.finish()
    assert bearer(world, "cellar")[0] == "owner"


def test_a_client_without_a_redirect_uri_logs_in_so_by_itself(world: World) -> None:
    login = LoginCommand(world.daemon, "den", "--client", "box")
    decide(world, login, approve=True)
    assert "den: authorized" in login.finish()


def test_a_refusal_ends_the_login_and_says_so(world: World) -> None:
    login = LoginCommand(world.daemon, "attic", "--client", "tv", "--device")
    decide(world, login, approve=False)
    assert "the account, or its owner, refused the access (access_denied)" in login.finish(code=1)
    assert not world.token("attic")


def test_a_code_that_nobody_typed_ends_the_login(world: World) -> None:
    login = LoginCommand(world.daemon, "loft", "--client", "tv", "--device")
    faults = world.server.sandbox.faults

    def ended() -> bool:
        if not faults._queue:  # another grant may have met the one before
            world.server.call(faults.enqueue, refuses("expired_token"))
        return login.has_ended

    wait_until(ended, description="the login ends")
    world.server.call(faults.clear)
    assert "the code has expired before anybody consented" in login.finish(code=1)


APP = """
[clients.app]
token_endpoint = "{base_url}/app/installations/{{subject}}/access_tokens"
client_id = "12345"
client_private_key = {{ file = "app.pem" }}
assertion_placement = "bearer"
assertion_claims = {{ aud = "", sub = "", jti = "" }}
placement = "json"
answer_names = {{ access_token = "token" }}

[grants.installation]
client = "app"
grant_type = "jwt_bearer"
subject = "678"
"""


def test_a_github_app_gets_the_token_of_an_installation(
    tmp_path_factory: pytest.TempPathFactory, canary: Canary
) -> None:
    names = {"access_token": "token", "expires_in": "expires_at"}
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        access_token_lifetime=3600,
        parameters_in="json",
        manners=Manners(answer_names=names, expiry="iso"),
    )
    with new_world(tmp_path_factory.mktemp("app"), canary, options) as world:
        sandbox = world.server.sandbox
        world.server.call(
            sandbox.register, client_id="12345", public=True, public_key=key_pair()[1]
        )
        world.secret_file("app.pem", key_pair()[0])
        world.daemon.prepare(
            redis_url=world.valkey.url, clients=APP.format(base_url=sandbox.base_url)
        )
        world.daemon.start()
        first = published(world, "installation")
        assert bearer(world, "installation")[0] == "678"
        life = int(first["expires_at"]) - int(first["issued_at"])
        assert 3590 <= life <= 3600, "the end was read as the instant that it is"
        world.daemon.command("refresh", "installation")
        published(world, "installation", above=int(first["version"]))

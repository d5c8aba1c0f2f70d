"""A client of a provider of the catalogue in a real daemon: its lines, and one that is missing."""

from pathlib import Path

from refresher.providers import find_provider
from refresher.providers.lines import settings_lines
from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

PROVIDER = "smart-on-fhir"
"""The entry whose paths are those of the sandbox; the host is the customer's own."""

GRANT = '\n[grants.ward]\nclient = "smart-on-fhir"\nrefresh_token = { file = "ward.secret" }\n'


def pasted(world: World) -> list[str]:
    """What ``refresher providers`` tells to paste, filled in for the sandbox."""
    entry = find_provider(PROVIDER)
    assert entry is not None
    known = world.server.sandbox.client
    world.secret_file(f"{PROVIDER}.secret", str(known.client_secret))
    own = {"base_url": world.server.sandbox.base_url, "client_id": known.client_id}
    lines = [line.partition(" = ") for line in settings_lines(entry)]
    return [
        f'{key} = "{own[key]}"' if key in own else key + sign + rest for key, sign, rest in lines
    ]


def test_the_pasted_lines_and_a_refresh_token_are_enough(tmp_path: Path, canary: Canary) -> None:
    with new_world(tmp_path, canary, SandboxOptions(access_token_lifetime=3600)) as world:
        (refresh_token,) = world.server.refresh_tokens(1)
        world.secret_file("ward.secret", refresh_token)
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join([*pasted(world), GRANT]))
        world.daemon.command("check", check=0)
        world.daemon.start()
        wait_until(lambda: "access_token" in world.token("ward"), description="it is published")
        assert world.status("ward")["state"] == "fresh"


def test_check_refuses_a_missing_tenant_and_says_what_to_set(
    tmp_path: Path, canary: Canary
) -> None:
    with new_world(tmp_path, canary, SandboxOptions()) as world:
        client = '[clients.mail]\nprovider = "microsoft"\nclient_id = "a"\nclient_secret = "b"\n'
        world.daemon.prepare(redis_url=world.valkey.url, clients=client)
        done = world.daemon.command("check", check=78)
        assert "clients.mail.tenant is missing: set the directory" in done.stderr
        assert 'such as "contoso.onmicrosoft.com"' in done.stderr

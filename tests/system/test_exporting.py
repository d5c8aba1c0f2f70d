"""Leaving: what `export` prints is what `import` takes, in another vault and back."""

import json
from pathlib import Path
from typing import Any

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.daemon import DaemonProcess
from tests.system.test_requests import exchanges
from tests.system.world import World, new_world


def exported(daemon: DaemonProcess, *arguments: str) -> list[dict[str, Any]]:
    done = daemon.command("export", *arguments, logged=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def elsewhere(world: World, folder: Path) -> DaemonProcess:
    """Another vault with the same client, where no daemon runs and no Redis is."""
    other = DaemonProcess(folder)
    folder.mkdir()
    secret = (world.daemon.folder / "box.secret").read_text()
    (folder / "box.secret").touch(0o600)
    (folder / "box.secret").write_text(secret)
    other.prepare(redis_url="redis://127.0.0.1:1", clients=world.client("box"))
    return other


def test_a_round_trip_through_another_vault(tmp_path: Path, canary: Canary) -> None:
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), rotation="strict", access_token_lifetime=3600
    )
    folder = tmp_path / "here"
    folder.mkdir()
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        minted = world.server.call(world.server.sandbox.mint)
        line = {
            "name": "acme",
            "client": "box",
            "refresh_token": minted.refresh_token,
            "access_token": minted.access_token,
            "expires_at": 4_000_000_000.0,
            "token_type": "Bearer",
            "scope": ["read", "liveview"],
            "labels": {"access": "partial"},
        }
        world.import_grants(line)

        refused = world.daemon.command("export", text="n\n", check=1, logged=False)
        assert "two owners of one refresh token end its grant" in refused.stderr
        assert refused.stdout == ""
        [view] = json.loads(world.daemon.command("status", "--json").stdout)["grants"]
        assert view["state"] == "fresh"

        assert exported(world.daemon, "--yes") == [line]
        told = world.daemon.command("status", "acme", check=3).stdout
        assert "exported_here" in told
        assert world.token("acme")["access_token"] == minted.access_token, "to its end"
        asked = exchanges(world, minted)

        other = elsewhere(world, tmp_path / "elsewhere")
        done = other.command("import", "-", text=json.dumps(line))
        assert done.stdout == "acme: added, fresh\n"
        assert exported(other, "acme", "--yes") == [line]
        unknown = other.command("export", "acme", "nobody", "--yes", check=1)
        assert unknown.stderr == "refresher: there is no grant named nobody\n"
        assert exchanges(world, minted) == asked, "nobody has spent it"

"""A command that works alone on the vault publishes what it changed."""

import time
from pathlib import Path

from refresher.app.without_daemon import alone
from refresher.engine.announcements import TOLD_ONE_BY_ONE
from refresher.settings.loading import load
from refresher.vault.sealing import write_key_file
from tests.support.valkey import Valkey, session_valkey, shared_valkey

__all__ = ["session_valkey", "shared_valkey"]

SETTINGS = """
[vault]
path = "{folder}/refresher.db"
[redis]
url = "{redis}"
[clients.crm]
authorization_endpoint = "https://crm.example/authorize"
token_endpoint = "https://crm.example/token"
redirect_uris = ["http://127.0.0.1/callback/crm"]
client_id = "crm"
client_secret = "crm-secret"
rotation = "strict"
"""


async def test_an_import_of_many_reaches_redis(tmp_path: Path, shared_valkey: Valkey) -> None:
    config = tmp_path / "refresher.toml"
    config.touch(0o600)
    config.write_text(SETTINGS.format(folder=tmp_path, redis=shared_valkey.url))
    write_key_file(tmp_path / "refresher.key")
    names = [f"grant-{number}" for number in range(TOLD_ONE_BY_ONE + 2)]
    lines = [
        {
            "name": name,
            "client": "crm",
            "refresh_token": f"rt-{name}",
            "access_token": f"at-{name}",
            "expires_at": time.time() + 3_600,
        }
        for name in names
    ]
    async with alone(load(config).settings) as operations:
        for some in (lines[:1], lines[1:]):
            await operations["import"]({"grants": some})
    with shared_valkey.client() as redis:
        tokens = [redis.hget(f"refresher:token:{name}", "access_token") for name in names]
    assert tokens == [f"at-{name}" for name in names]

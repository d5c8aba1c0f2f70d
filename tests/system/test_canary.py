"""The search for leaks finds what it is there to find."""

import base64
from pathlib import Path

import pytest

from tests.canary import Canary
from tests.support.valkey import Valkey, session_valkey, shared_valkey

__all__ = ["session_valkey", "shared_valkey"]

SECRET = "rt-family-1-Zm9vYmFyYmF6cXV4"


@pytest.fixture
def canary() -> Canary:
    canary = Canary()
    canary.watch(lambda: [SECRET])
    return canary


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"token={SECRET}&x=1", id="as it is"),
        pytest.param(f'{{"url":"http://h/?refresh_token={SECRET}"}}', id="in JSON"),
        *(
            pytest.param(base64.b64encode(f"{user}:{SECRET}".encode()).decode(), id=user)
            for user in ("i", "id", "ids")
        ),
    ],
)
def test_a_secret_in_a_file_is_found(
    text: str, canary: Canary, tmp_path: Path, shared_valkey: Valkey
) -> None:
    (tmp_path / "daemon.log").write_text(f"before {text} after")
    (tmp_path / "client.secret").write_text(SECRET)
    with shared_valkey.client() as redis:
        assert canary.leaks(tmp_path, redis) == [f"daemon.log holds {SECRET[:20]}..."]


def test_a_secret_in_redis_is_found(canary: Canary, tmp_path: Path, shared_valkey: Valkey) -> None:
    with shared_valkey.client() as redis:
        redis.hset("refresher:token:g", mapping={"access_token": SECRET, "scope": SECRET})
        redis.hset("refresher:status:g", mapping={"reason": SECRET})
        redis.xadd("refresher:events", {"reason": SECRET})
        redis.set("other", SECRET)
        found = canary.leaks(tmp_path, redis)
        assert sorted(line.split()[1] for line in found) == [
            "other",
            "refresher:events",
            "refresher:status:g",
            "refresher:token:g",
        ]
        redis.delete("refresher:status:g", "refresher:events", "other")
        redis.hdel("refresher:token:g", "scope")
        assert canary.leaks(tmp_path, redis) == []

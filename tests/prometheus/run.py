"""A bad hour of a real daemon, as its metrics told it.

Four grants are served and then three of them refused, a key of Redis is taken away, and in the
end Redis itself. Pages are kept from before and after.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from refresher.demo.private_server import free_port
from refresher.sandbox import Minted, SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

NAMES = ("a", "b", "c", "d")
REFUSED = NAMES[:3]
"""As many as make an incident."""

Series = tuple[str, frozenset[tuple[str, str]]]
"""Name and labels."""

Page = Mapping[Series, float]


@dataclass(slots=True)
class Hour:
    """A daemon whose metrics are scraped at ``address``."""

    world: World
    address: str
    minted: dict[str, Minted]

    def page(self) -> Page:
        """What a scrape brings now."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=60) as answer:
            text: str = answer.read().decode()
        # Where secrets are looked for at the end.
        (self.world.daemon.folder / "metrics.txt").write_text(text)
        return parsed(text)

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of now."""
        return self.page().get((name, frozenset(labels.items())))

    def status(self, probe: str) -> int:
        """What a probe answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/{probe}", timeout=60) as answer:
                status: int = answer.status
        except urllib.error.HTTPError as refusal:
            status = refusal.code
        return status

    def refuse(self) -> None:
        """Let the server refuse three grants that it served, and the daemon ask for them."""
        world = self.world
        for name in REFUSED:
            world.server.call(world.server.sandbox.revoke_family, self.minted[name].family_id)
            world.daemon.command("refresh", name)
        wait_until(
            lambda: self.value("refresher_incident_grants", client="box") == len(REFUSED),
            description="the incident is counted",
        )

    def take_a_key(self) -> None:
        """Delete what Redis shows of a grant, and see it put back."""
        before = self.value("refresher_mirror_repairs_total") or 0.0
        with self.world.valkey.client() as redis:
            redis.delete(f"refresher:token:{NAMES[3]}")
        wait_until(
            lambda: (self.value("refresher_mirror_repairs_total") or 0.0) > before,
            description="the mirror is repaired",
        )

    def reject(self) -> None:
        """Say as a consumer that a token was rejected, and see the next one published."""
        version = self.world.token(NAMES[3])["version"]
        with self.world.valkey.client() as redis:
            redis.set(f"refresher:rejected:{NAMES[3]}", version, ex=300)
        wait_until(
            lambda: self.value("refresher_consumer_rejections_total", outcome="accepted"),
            description="a consumer's word is counted",
        )
        wait_until(
            lambda: self.world.token(NAMES[3])["version"] > version,
            description="the next token is published",
        )

    def take_redis(self) -> None:
        """Stop Redis."""
        self.world.valkey.stop()
        wait_until(
            lambda: self.value("refresher_redis_connected") == 0.0,
            description="Redis counts as away",
        )


@contextmanager
def bad_hour(folder: Path) -> Iterator[Hour]:
    """A daemon that is well, with four grants that were served twice."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3_600.0
    )
    with new_world(folder, canary, options) as world:
        address = f"127.0.0.1:{free_port()}"
        clients = world.client("box", more='refresh_token_idle = "10d"')
        listen = f'[http]\nlisten = "{address}"\n'
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients + listen)
        world.daemon.start()
        minted = {name: world.server.call(world.server.sandbox.mint) for name in NAMES}
        world.import_grants(
            *(
                {"name": name, "client": "box", "refresh_token": one.refresh_token}
                for name, one in minted.items()
            )
        )
        hour = Hour(world, address, minted)
        wait_until(
            lambda: hour.value("refresher_grants", client="box", state="fresh") == len(NAMES),
            description="every grant is fresh",
        )
        yield hour
        if world.valkey.pid is None:
            world.valkey.start()


def parsed(text: str) -> Page:
    """The samples of a page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def kept(hour: Hour, count: int = 3) -> list[Page]:
    """Some pages, a moment apart."""
    pages = []
    for _ in range(count):
        pages.append(hour.page())
        time.sleep(1.0)
    return pages

"""Clocks that leap and lives that are too short or too long, on the real daemon."""

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from refresher.sandbox import DropBefore, SandboxOptions, TokenPolicy
from tests.canary import Canary
from tests.support.steady import GRANTS, Steady
from tests.support.stepped_daemon import Stepping
from tests.support.waiting import wait_until
from tests.system.world import new_world

LIFETIMES = {
    "brief": 2.0,
    "away": 2.0,  # a client of its own, for its failures close the way for all its grants
    "hour": 3600.0,
    "second": 1.0,
    "decade": 10 * 365 * 86_400.0,
}
"""Seconds the access tokens of each client live."""

HOUR = 3600.0


@dataclass(slots=True, kw_only=True)
class Scene(Steady):
    """Grants of a daemon on a clock of its own."""

    clock: Stepping

    def of(self, client: str) -> list[str]:
        """The grants of CLIENT."""
        return [f"{client}-{number}" for number in range(GRANTS)]

    def count(self, names: list[str]) -> dict[str, int]:
        """How many exchanges there were for each of NAMES."""
        return {name: len(self.exchanges(name)) for name in names}

    def jumps(self) -> list[float]:
        return [line["offset_s"] for line in self.world.daemon.events("clock.jumped")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Scene]:
    """Grants whose tokens live for seconds, an hour and ten years, all published."""
    folder = tmp_path_factory.mktemp("time-faults")
    options = SandboxOptions(client_secret=canary.plant("client-secret"))
    with new_world(folder, canary, options) as world:
        sandbox, clients, minted = world.server.sandbox, [], {}
        for client, lifetime in LIFETIMES.items():
            known = world.server.call(
                sandbox.register, policy=TokenPolicy(access_token_lifetime=lifetime)
            )
            more = "survive_outage = 60" if client == "second" else ""
            clients.append(
                world.client(
                    client, secret=known.client_secret, client_id=known.client_id, more=more
                )
            )
            for number in range(GRANTS):
                one = world.server.call(sandbox.mint, client_id=known.client_id)
                minted[f"{client}-{number}"] = one
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join(clients))
        clock = Stepping(world.daemon)
        clock.start()
        world.import_grants(
            *(
                {"name": name, "client": name.partition("-")[0], "refresh_token": one.refresh_token}
                for name, one in minted.items()
            )
        )
        wait_until(
            lambda: all(world.token(name) for name in minted if "second" not in name),
            description="every grant has a token",
        )
        yield Scene(world=world, clock=clock, minted=minted)


@pytest.mark.parametrize(
    "step",
    [2 * HOUR, -2 * HOUR, HOUR / 2, -HOUR / 2],
    ids=["2 h ahead", "2 h back", "30 min ahead", "30 min back"],
)
def test_a_stepped_clock_costs_one_refresh_at_most(scene: Scene, step: float) -> None:
    names = [*scene.of("brief"), *scene.of("hour"), *scene.of("decade")]
    jumps, before = len(scene.jumps()), scene.count(names)
    brief = scene.of("brief")
    generations = {name: scene.generation(name) for name in names}
    with scene.undisturbed(names) as consumers:
        began = time.monotonic()
        scene.clock.step(step)
        wait_until(lambda: len(scene.jumps()) > jumps, description="clock.jumped")
        wait_until(
            lambda: all(scene.generation(name) > generations[name] + 1 for name in brief),
            description="refreshes go on",
        )
        wait_until(
            lambda: all(scene.is_current(name) for name in names),
            description="every token of the server's can be read",
        )
        took = time.monotonic() - began
        after = scene.count(names)
        wait_until(
            lambda: all(consumers.seen_at[name] > began + took for name in scene.of("hour")),
            description="consumers read them",
        )
    assert [round(one) for one in scene.jumps()[jumps:]] == [round(step)]
    for name in names:
        often = 2 + took if name in brief else 1
        assert after[name] - before[name] <= often, f"{name} within {took:.1f} s"


def test_no_step_back_lengthens_a_life_while_the_server_is_away(scene: Scene) -> None:
    names = scene.of("away")
    faults = scene.world.server.sandbox.faults
    with scene.undisturbed(names) as consumers:
        wait_until(lambda: all(scene.is_current(name) for name in names), description="tokens")
        for name in names:
            scene.world.server.call(
                faults.enqueue, *[DropBefore()] * 50, family_id=scene.minted[name].family_id
            )
        scene.clock.step(-2 * HOUR)
        began = time.monotonic()
        wait_until(
            lambda: not any(scene.world.token(name) for name in names),
            description="the tokens ended",
        )
        with scene.world.valkey.client() as redis:
            redis.flushall()
        wait_until(lambda: scene.world.status(names[0]), description="Redis is filled")
        time.sleep(1)
        assert max(consumers.seen_at[name] for name in names) < began + LIFETIMES["away"] + 1
        scene.world.server.call(faults.clear)
        wait_until(
            lambda: all(scene.is_current(name) for name in names),
            description="every grant is refreshed",
        )


def test_a_suspended_machine_refreshes_everything_once_it_resumes(scene: Scene) -> None:
    names = [*scene.of("brief"), *scene.of("hour")]
    jumps, before = len(scene.jumps()), scene.count(names)
    generations = {name: scene.generation(name) for name in names}
    process = scene.world.daemon.process
    assert process is not None
    with scene.undisturbed(names):
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(LIFETIMES["brief"] + 0.2)
            assert not any(scene.world.token(name) for name in scene.of("brief"))
            scene.clock.step(2 * HOUR)
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(
            lambda: all(
                scene.generation(name) > generations[name] and scene.is_current(name)
                for name in names
            ),
            description="every grant is refreshed",
        )
        after = scene.count(names)
    wait_until(lambda: len(scene.jumps()) > jumps, description="clock.jumped")
    assert len(scene.jumps()) == jumps + 1
    assert all(after[name] == before[name] + 1 for name in scene.of("hour"))


def test_one_second_tokens_are_never_readable_too_long(scene: Scene) -> None:
    """A second is less than any margin, and much less than the outage to be survived."""
    names = scene.of("second")
    before = scene.count(names)
    with scene.undisturbed(names) as consumers:
        wait_until(
            lambda: all(scene.count([name])[name] > before[name] + 3 for name in names),
            description="refreshes go on",
        )
    assert consumers.reads > 0
    for name in names:
        arrived = [one.arrived_at for one in scene.exchanges(name)[before[name] :]]
        assert all(later - earlier > 0.9 for earlier, later in pairwise(arrived)), name


def test_ten_year_tokens_end_in_ten_years(scene: Scene) -> None:
    names = scene.of("decade")
    before = scene.count(names)
    life = LIFETIMES["decade"]
    with scene.undisturbed(names):
        for name in names:
            with scene.world.valkey.client() as redis:
                left = redis.pttl(f"refresher:token:{name}") / 1000
                assert life - 24 * HOUR < left <= life
        time.sleep(1)
    assert scene.count(names) == before
    token, status = scene.world.token(names[0]), scene.world.status(names[0])
    assert int(token["expires_at"]) - int(token["issued_at"]) == math.floor(life)
    assert 0.69 < (int(status["next_attempt_at"]) - int(token["issued_at"])) / life < 0.81

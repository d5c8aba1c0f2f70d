"""G8 and G6 at one client: what a server says to one grant costs no other grant its token."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from refresher.sandbox import Minted
from refresher.sandbox.faults import FaultMix, Raw, Slow, Status
from tests.canary import Canary
from tests.support.presence import always_there
from tests.support.steady import Steady, bring_all, steady_world
from tests.support.waiting import wait_until

LIFE = 8.0
"""Seconds a token lives: each is refreshed when about half of them have passed."""

JSON = {"Content-Type": "application/json"}

OFTEN = 40
"""More requests than any grant here sends."""


@pytest.fixture
def steady(tmp_path: Path, canary: Canary) -> Iterator[Steady]:
    """A daemon that is not started yet, and four grants."""
    with steady_world(tmp_path, canary, lifetime=LIFE) as steady:
        yield steady


def refusal(error: str, status: int) -> Raw:
    return Raw(status=status, body=json.dumps({"error": error}).encode(), headers=JSON)


def let_refuse(steady: Steady, name: str, fault: Raw | Status, times: int = OFTEN) -> None:
    """Answer the next requests of NAME with FAULT."""
    family = steady.minted[name].family_id
    sandbox = steady.world.server.sandbox
    steady.world.server.call(sandbox.faults.enqueue, *[fault] * times, family_id=family)


def let_go(steady: Steady) -> None:
    """Answer everybody again as the protocol says."""
    steady.world.server.call(steady.world.server.sandbox.faults.clear)


def await_reason(steady: Steady, name: str, reason: str) -> None:
    wait_until(
        lambda: steady.world.status(name).get("reason") == reason,
        description=f"{name} is told as {reason}, not {steady.world.status(name)}",
    )


def await_fresh(steady: Steady, *names: str) -> None:
    wait_until(
        lambda: {steady.world.status(name).get("state") for name in names} == {"fresh"},
        description=f"{names} are fresh again",
    )


def test_words_about_the_client_for_one_account(steady: Steady) -> None:
    """Three servers' words, one account after the other; the fourth account is served."""
    words = {"g0": ("unauthorized_client", 403), "g1": ("access_denied", 400)}
    words["g2"] = ("invalid_client", 401)
    daemon = steady.world.daemon
    daemon.start()
    bring_all(steady)
    with steady.undisturbed():
        for name, (word, status) in words.items():
            healthy = [one for one in steady.names if one > name]
            with always_there(steady.world.valkey.url, healthy):
                let_refuse(steady, name, refusal(word, status))
                await_reason(steady, name, f"not_authorized:{word}")
                told = steady.world.status(name)
                assert told["state"] in {"degraded", "expired"}
                assert f"refresher login {name}" in told["repair"]
                assert "let this account or its organization allow the client" in told["repair"]
        singled_out = [line["grant"] for line in daemon.events("grant.singled_out")]
        assert singled_out == ["g0", "g1", "g2"]
        let_go(steady)
        daemon.hang_up()
        for name in words:
            daemon.command("refresh", name)
        await_fresh(steady, *steady.names)
    assert daemon.events("client.rejected", "endpoint.suspended") == []


def test_a_secret_that_really_is_wrong(steady: Steady) -> None:
    """Told once, probed rarely, and mended by the right secret alone."""
    daemon, sandbox = steady.world.daemon, steady.world.server.sandbox
    daemon.start()
    bring_all(steady)
    secret = steady.world.canary.plant("new-client-secret")
    with steady.undisturbed():
        changed = replace(sandbox.client, client_secret=secret)
        steady.world.server.call(sandbox._server.applications.add, changed)
        wait_until(lambda: daemon.events("client.rejected"), description="client.rejected")
        [line] = daemon.events("client.rejected")
        assert (line["client"], line["error_code"]) == ("box", "invalid_client")
        assert "client_secret" in line["repair"]
        assert "client_authentication" in line["repair"]
        refused = [one for one in sandbox.log if one.error == "invalid_client"]
        assert len(refused) <= len(steady.names)
        steady.world.secret_file("box.secret", secret)
        await_fresh(steady, *steady.names)
        steady.catch_up()
    assert len(daemon.events("client.rejected")) == len(daemon.events("client.recovered")) == 1
    assert daemon.events("grant.singled_out", "grant.doubted") == []


NOTHING_SAID: Mapping[str, Raw | Status] = {
    "http_400": Raw(status=400, body=b"", headers={}),
    "http_401": Raw(status=401, body=b"", headers={}),
    "http_404": Raw(status=404, body=b"", headers={}),
    "http_500": Status(code=500, body=b""),
}
"""Refusals without a word, by what is told of them."""


def test_many_refused_without_words_starve_nobody(steady: Steady) -> None:
    """Twenty-four of twenty-eight grants of one client; the four are there all the time."""
    daemon, server = steady.world.daemon, steady.world.server
    daemon.start()
    bring_all(steady)
    failing = {
        f"{word}-{number}": server.call(server.sandbox.mint)
        for word in NOTHING_SAID
        for number in range(6)
    }
    healthy = list(steady.names)
    steady.minted = {**steady.minted, **failing}
    for name in failing:
        let_refuse(steady, name, NOTHING_SAID[name.partition("-")[0]])
    with steady.undisturbed(healthy), always_there(steady.world.valkey.url, healthy):
        before = {name: steady.generation(name) for name in healthy}
        steady.world.import_grants(*(_line(name, minted) for name, minted in failing.items()))
        wait_until(
            lambda: all(steady.generation(name) >= before[name] + 2 for name in healthy),
            description="two refreshes of every healthy grant",
        )
        for word, reason in (
            ("http_400", "unexplained:http_400"),
            ("http_401", "unexplained:http_401"),
            ("http_404", "unexplained:http_404"),
            ("http_500", "outcome_unknown:http_500"),
        ):
            told = steady.world.status(f"{word}-0")
            assert told["reason"] == reason
            assert "wait until" in told["repair"]
        let_go(steady)
        again = [f"{word}-0" for word in NOTHING_SAID]
        for name in again:
            daemon.command("refresh", name)
        await_fresh(steady, *again)


def _line(name: str, minted: Minted) -> dict[str, str]:
    return {"name": name, "client": "box", "refresh_token": minted.refresh_token}


DOUBT_TIMES = 400.0
"""Two minutes of doubt are 0.3 s, half an hour is 4.5 s."""


def start_hasty(steady: Steady) -> None:
    """Start the daemon in which doubt passes quickly, and bring every grant."""
    daemon = steady.world.daemon
    daemon.start_hasty(DOUBT_TIMES)
    wait_until(daemon.ready_count, description="the daemon is ready")
    bring_all(steady)


def test_a_server_that_refuses_everybody_for_a_while(steady: Steady) -> None:
    """An incident, told once and over once; nobody logs in, and nothing is lost."""
    start_hasty(steady)
    daemon, plan = steady.world.daemon, steady.world.server.sandbox.faults
    with steady.undisturbed():
        wrong = FaultMix(chances=((1.0, refusal("invalid_grant", 400)),))
        steady.world.server.call(plan.set_mix, wrong)
        wait_until(
            lambda: len(daemon.events("grant.doubted")) == len(steady.names),
            description="everybody is doubted",
        )
        for name in steady.names:
            told = steady.world.status(name)
            assert told["reason"] == "refused:invalid_grant"
            assert told["repair"].startswith(f"refresher login {name}; or wait until ")
        steady.world.server.call(plan.set_mix, None)
        await_fresh(steady, *steady.names)
        steady.catch_up()
        wait_until(lambda: daemon.events("incident.closed"), description="incident.closed")
    [opened], [closed] = daemon.events("incident.opened"), daemon.events("incident.closed")
    assert opened["client"] == closed["client"] == "box"
    assert opened["count"] >= 3
    assert closed["count"] == len(steady.names)
    assert opened["since"] == closed["since"]
    assert len(daemon.events("grant.doubted")) == len(steady.names)


def test_dead_once_others_are_served_meanwhile(steady: Steady) -> None:
    """Two are refused for half an hour, one rightly and one wrongly; the daemon cannot know."""
    start_hasty(steady)
    world, daemon = steady.world, steady.world.daemon
    world.server.call(world.server.sandbox.revoke_family, steady.minted["g0"].family_id)
    let_refuse(steady, "g1", refusal("invalid_grant", 400))
    with always_there(world.valkey.url, ["g2", "g3"]):
        wait_until(lambda: len(daemon.events("grant.lost")) == 2, description="two are lost")
    for name in ("g0", "g1"):
        wait_until(
            lambda name=name: world.status(name)["state"] == "reauthorization_required",  # type: ignore[misc]  # mypy takes no default of a lambda
            description=f"{name} is told to be lost",
        )
        told = world.status(name)
        assert (told["state"], told["reason"]) == (
            "reauthorization_required",
            "revoked:invalid_grant",
        )
        refused = [one for one in steady.exchanges(name) if one.generation_issued is None]
        assert 3 <= len(refused) <= 5
    assert len(daemon.events("grant.doubted")) == 2
    assert daemon.events("incident.opened") == []


def test_an_answer_after_the_deadline_is_adopted(tmp_path: Path, canary: Canary) -> None:
    """The server has rotated and takes 6 s to say so; one exchange, and others go on."""
    with steady_world(tmp_path, canary, lifetime=LIFE) as steady:
        world, daemon = steady.world, steady.world.daemon
        settings = daemon.config.read_text()
        daemon.config.write_text(
            settings.replace('rotation = "strict"', 'rotation = "strict"\nresponse_timeout = 2')
        )
        daemon.start()
        bring_all(steady)
        late = Slow(seconds=6.0, after_processing=True)
        family = steady.minted["g0"].family_id
        with steady.undisturbed(), always_there(world.valkey.url, ["g1", "g2", "g3"]):
            world.server.call(world.server.sandbox.faults.enqueue, late, family_id=family)
            version, sent = int(world.token("g0")["version"]), len(steady.exchanges("g0"))
            daemon.command("refresh", "g0")
            wait_until(
                lambda: int(world.token("g0").get("version", 0)) > version,
                description="the late answer is adopted",
            )
            assert [one.fault for one in steady.exchanges("g0")[sent:]][:1] == ["slow"]
        [line] = [
            one
            for one in daemon.events("exchange.succeeded")
            if one["grant"] == "g0" and one["duration_ms"] > 5_500
        ]
        assert line["replay"] is False
        assert daemon.events("exchange.failed") == []


@pytest.mark.long
def test_a_server_that_refuses_early_refreshes(tmp_path: Path, canary: Canary) -> None:
    """No failure, and learned: from the third token on it is asked once."""
    life, window = 40.0, 14.0
    with steady_world(tmp_path, canary, lifetime=life) as steady:
        world, daemon, plan = steady.world, steady.world.daemon, steady.world.server.sandbox.faults
        said = {"error": "access_denied", "error_description": "the access token has not expired"}
        early = Raw(status=400, body=json.dumps(said).encode(), headers=JSON)
        issued: dict[str | None, float] = {}

        def too_early(family_id: str | None) -> Raw | None:
            log = [one for one in world.server.sandbox.log if one.family_id == family_id]
            for one in log:
                if one.generation_issued is not None and one.processed_at is not None:
                    issued[family_id] = one.processed_at
            now = world.server.sandbox._clock()
            is_early = now < issued.get(family_id, 0.0) + life - window
            return early if is_early else None

        plan.next_for = too_early  # type: ignore[method-assign]  # a server of this test's own
        daemon.start()
        bring_all(steady)
        with steady.undisturbed(), always_there(world.valkey.url, steady.names):
            steady.rotate(2)
            refused = {name: refusals(steady, name) for name in steady.names}
            steady.rotate(1)
        assert all(1 <= count <= 5 for count in refused.values()), refused
        assert {name: refusals(steady, name) for name in steady.names} == refused
        assert daemon.events("client.rejected", "grant.degraded", "grant.singled_out") == []
        doubts = [line["reason"] for line in daemon.events("answer.doubted")]
        assert doubts
        assert all("refresh_window" in reason for reason in doubts)


def refusals(steady: Steady, name: str) -> int:
    return sum(one.generation_issued is None for one in steady.exchanges(name))

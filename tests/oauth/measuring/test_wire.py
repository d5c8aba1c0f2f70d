"""Real servers, measured over HTTP: the sandbox's profiles, and servers that do as they like."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from refresher.clock import SystemClock
from refresher.domain.clients import Client
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.secret import Secret
from refresher.oauth.measuring.experiments import Experiments
from refresher.oauth.measuring.judgement import Conclusion, conclude
from refresher.oauth.measuring.liveness import Liveness, Places, discovered
from refresher.oauth.measuring.wire import WiredServer
from refresher.oauth.revocation import RevocationResult
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.sandbox import RetryAfter, Sandbox, SandboxOptions
from tests.oauth.world import answering, http_answer
from tests.support.clients import make_client


async def measure(
    endpoint: TokenEndpoint,
    client: Client,
    log_in: Callable[[str], Awaitable[TokenAnswer]],
    *,
    places: Places,
    wait: float,
) -> tuple[Conclusion, Experiments, int]:
    server = WiredServer(
        endpoint=endpoint,
        client=client,
        clock=SystemClock(),
        liveness=Liveness(endpoint=endpoint, client=client, places=places),
        make_login=log_in,
        redirect_uri=None,
    )
    experiments = Experiments(server, wait=wait, tell=lambda _: None)
    evidence = await experiments.run()
    left = await experiments.clean_up()
    return conclude(evidence), experiments, left


async def measured_sandbox(
    sandbox: Sandbox, *, wait: float = 0.0, **told: Any
) -> tuple[Conclusion, Experiments, int]:
    options = sandbox.options
    client = make_client(
        "acme",
        client_id=options.client_id,
        token_endpoint=sandbox.token_endpoint,
        client_secret=Secret(options.client_secret),
        **told,
    )

    async def log_in(_: str) -> TokenAnswer:
        minted = sandbox.mint()
        return TokenAnswer(
            access_token=Secret(minted.access_token),
            refresh_token=Secret(minted.refresh_token),
            expires_in=minted.expires_in,
        )

    async with TokenEndpoint() as endpoint:
        found = await discovered(endpoint, client)
        places = Places(
            revocation=found.get("revocation_endpoint"), probe=f"{sandbox.base_url}/resource"
        )
        return await measure(endpoint, client, log_in, places=places, wait=wait)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"rotation": "none"}, "none"),
        ({"rotation": "strict"}, "strict"),
        ({"rotation": "strict", "revoke_family_on_reuse": False}, "strict"),
        ({"rotation": "until_used", "grace_answer": "sibling"}, "until_used"),
        ({"rotation": "grace", "grace_seconds": 900.0}, "until_used"),
        ({"rotation": "strict", "revoke_access_token_on_refresh": True}, "strict"),
    ],
)
async def test_a_profile_of_the_sandbox_is_found(told: dict[str, Any], expected: str) -> None:
    async with Sandbox(SandboxOptions(access_token_lifetime=600.0, **told)) as sandbox:
        found, experiments, left = await measured_sandbox(sandbox, wait=1.2)
        revoked = [family.revoked_at is not None for family in sandbox.families]
    assert str(found.rotation) == expected
    kills = None if told["rotation"] == "none" else told.get("revoke_family_on_reuse", True)
    assert found.value("reuse_kills_grant") is kills
    assert found.value("kills_access_token") is told.get("revoke_access_token_on_refresh", False)
    assert found.value("revoking_refresh_token_kills_access_token") is True
    assert found.value("revoking_access_token_kills_refresh_token") is False
    assert left == 0
    assert all(revoked)
    assert len(experiments.evidence.grants) == len(revoked)


async def test_a_short_window_is_found() -> None:
    options = SandboxOptions(rotation="grace", grace_seconds=2.0, access_token_lifetime=600.0)
    async with Sandbox(options) as sandbox:
        found, _, _ = await measured_sandbox(sandbox, wait=60.0)
    # A machine that is busy asks late: then it says less, and never more.
    assert str(found.rotation) in {"grace(2)", "grace(1)", "strict"}
    assert found.value("replay_ends") == ["successor", "time"]


async def test_the_rate_limit_of_a_server_changes_no_verdict() -> None:
    async with Sandbox(SandboxOptions(rotation="strict", access_token_lifetime=600.0)) as sandbox:
        sandbox.faults.enqueue(None, RetryAfter(seconds=0), RetryAfter(seconds=0))
        found, _, left = await measured_sandbox(sandbox)
    assert str(found.rotation) == "strict"
    assert left == 0


class Odd:
    """A server of another make: one route, whose answers a test writes.

    Args:
        refuse: status and body for a refresh token that is not the newest.
        keeps_old: how many times a used one is answered.
    """

    def __init__(self, refuse: tuple[int, str], *, keeps_old: int = 0) -> None:
        self.refuse, self.keeps_old = refuse, keeps_old
        self.generation = 0
        self.used: dict[str, int] = {}

    def issue(self) -> dict[str, Any]:
        self.generation += 1
        return {"access_token": f"AT{self.generation}", "refresh_token": f"RT{self.generation}"}

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        presented = str(form["refresh_token"])
        if presented == f"RT{self.generation}":
            return web.json_response(self.issue())
        self.used[presented] = self.used.get(presented, 0) + 1
        if presented.startswith("RT") and self.used[presented] <= self.keeps_old:
            return web.json_response(self.issue())
        status, body = self.refuse
        return web.Response(status=status, text=body, content_type="application/json")


async def measured_odd(odd: Odd, **told: Any) -> tuple[Conclusion, Experiments, int]:
    app = web.Application()
    app.router.add_post("/oauth/token", odd.token)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        client = make_client(
            "acme",
            token_endpoint=f"http://127.0.0.1:{port}/oauth/token",
            client_secret=Secret("a-client-secret"),
            **told,
        )

        async def log_in(_: str) -> TokenAnswer:
            issued = odd.issue()
            return TokenAnswer(
                access_token=Secret(issued["access_token"]),
                refresh_token=Secret(issued["refresh_token"]),
            )

        async with TokenEndpoint() as endpoint:
            assert await discovered(endpoint, client) == {}
            return await measure(endpoint, client, log_in, places=Places(), wait=1.0)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error":"invalid_request","error_description":"no such thing"}'),
        (401, '{"error":"invalid_grant"}'),
        (401, ""),
        (403, '{"message":"Forbidden"}'),
        (404, "{}"),
        (200, '{"error":"bad_refresh_token"}'),
        (400, '{"error":{"code":4711,"message":"gone"}}'),
    ],
)
async def test_a_replay_may_be_refused_in_any_words(status: int, body: str) -> None:
    found, experiments, left = await measured_odd(Odd((status, body)))
    assert str(found.rotation) == "strict"
    assert found.value("reuse_kills_grant") is False
    assert found.value("kills_access_token") is None
    assert left == 1  # nobody knows how to revoke there
    assert experiments.evidence.dead


async def test_a_word_of_its_own_is_to_be_set() -> None:
    found, _, _ = await measured_odd(Odd((400, '{"error":"token_is_history"}')))
    assert found.settings["rejection_codes"] == ["token_is_history"]


async def test_once_only_is_a_count() -> None:
    found, _, _ = await measured_odd(Odd((400, '{"error":"invalid_grant"}'), keeps_old=1))
    assert found.value("replay_ends") == "count"
    assert str(found.rotation) == "strict"


async def test_a_replay_that_brings_no_refresh_token_leaves_the_newest() -> None:
    class AccessTokenOnly(Odd):
        async def token(self, request: web.Request) -> web.Response:
            form = await request.post()
            if str(form["refresh_token"]) in {f"RT{self.generation}", "RT1"}:
                brings = self.issue() if form["refresh_token"] != "RT1" or not self.used else {}
                self.used["RT1"] = 1
                return web.json_response({"access_token": "AT", **brings})
            return web.json_response({"error": "invalid_grant"}, status=400)

    found, _, _ = await measured_odd(AccessTokenOnly((400, "{}")))
    assert found.value("rotates") is True
    assert found.value("replay") is True
    assert found.value("replay_brings") == "same_refresh_token"


async def test_rate_limits_of_the_other_endpoints_are_waited_out() -> None:
    asked: list[str] = []

    async def limited(request: web.Request) -> web.Response:
        asked.append(request.path)
        if asked.count(request.path) == 1:
            return web.Response(status=429, headers={"Retry-After": "0"})
        return web.json_response({"active": True})

    app = web.Application()
    app.router.add_post("/introspect", limited)
    app.router.add_post("/revoke", limited)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        client = make_client("acme", token_endpoint=f"{base}/token")
        async with TokenEndpoint() as endpoint:
            places = Places(introspection=f"{base}/introspect", revocation=f"{base}/revoke")
            server = WiredServer(
                endpoint=endpoint,
                client=client,
                clock=SystemClock(),
                liveness=Liveness(endpoint=endpoint, client=client, places=places),
                make_login=None,  # type: ignore[arg-type]  # nobody logs in
                redirect_uri=None,
            )
            assert await server.lives(Secret("AT")) is True
            told = server.liveness.told
            assert told == (
                "introspection of a fresh access token says that it is active, with no end"
            )
            assert await server.revoke_refresh(Secret("RT")) is RevocationResult.REVOKED
    finally:
        await runner.cleanup()
    assert asked == ["/introspect", "/introspect", "/revoke", "/revoke"]


async def test_a_server_that_fails_at_a_replay_is_not_judged() -> None:
    found, experiments, _ = await measured_odd(Odd((500, "oops")))
    assert found.rotation is None
    assert experiments.evidence.remarks


async def test_nothing_that_was_sent_is_shown() -> None:
    class Echo(Odd):
        async def token(self, request: web.Request) -> web.Response:
            form = dict(await request.post())
            presented = str(form["refresh_token"])
            said = {"error": "invalid_grant", "error_description": f"not {presented}"}
            self.refuse = (400, json.dumps(said))
            return await super().token(request)

    found, _, _ = await measured_odd(Echo((400, "{}")))
    ((_, said),) = found.dead
    assert said.body == '{"error":"invalid_grant"}'


async def test_a_first_refresh_that_is_refused_names_what_to_check() -> None:
    class Closed(Odd):
        def issue(self) -> dict[str, Any]:
            return {"access_token": "AT", "refresh_token": "of another client"}

    found, experiments, _ = await measured_odd(Closed((401, '{"error":"invalid_client"}')))
    assert found.rotation is None
    assert "client_secret" in experiments.evidence.remarks[0]
    assert "invalid_client" in experiments.evidence.remarks[0]


async def test_metadata_of_another_host_are_not_believed() -> None:
    async def metadata(request: web.Request) -> web.Response:
        base = f"http://{request.host}"
        return web.json_response(
            {
                "token_endpoint": f"{base}/oauth/token",
                "revocation_endpoint": "http://127.0.0.2/revoke",
                "introspection_endpoint": f"{base}/introspect",
            }
        )

    app = web.Application()
    app.router.add_get("/oauth/.well-known/oauth-authorization-server", metadata)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        client = make_client("acme", token_endpoint=f"{base}/oauth/token")
        async with TokenEndpoint() as endpoint:
            found = await discovered(endpoint, client)
    finally:
        await runner.cleanup()
    assert found == {"introspection_endpoint": f"{base}/introspect"}


@pytest.mark.parametrize(
    ("said", "asked", "told"),
    [
        ({"active": True, "exp": None}, "probe", "active, with an end in "),
        ({"active": False}, "probe", "inactive: nothing can be told by it"),
    ],
)
async def test_what_introspection_says_is_told_beside_another_way(
    said: dict[str, Any], asked: str, told: str
) -> None:
    if "exp" in said:
        said = {**said, "exp": time.time() + 600}  # of now: a run may last longer
    options = SandboxOptions(access_token_lifetime=600.0)
    async with (
        Sandbox(options) as sandbox,
        TokenEndpoint() as endpoint,
        answering(http_answer(said)) as raw,
    ):
        minted = sandbox.mint()
        client = make_client("acme", token_endpoint=sandbox.token_endpoint)
        places = Places(introspection=raw.url, probe=f"{sandbox.base_url}/resource")
        looks = Liveness(endpoint=endpoint, client=client, places=places)
        assert await looks.lives(Secret(minted.access_token)) is True
        assert looks.asked == asked
        assert told in (looks.told or "")


async def test_introspection_that_is_closed_to_the_client_is_passed_over() -> None:
    """The first way that says of a fresh token that it lives is the one."""
    options = SandboxOptions(access_token_lifetime=600.0)
    async with Sandbox(options) as sandbox, TokenEndpoint() as endpoint:
        minted = sandbox.mint()
        client = make_client("acme", token_endpoint=sandbox.token_endpoint)
        nowhere = f"{sandbox.base_url}/nowhere"
        places = Places(introspection=nowhere, userinfo=f"{sandbox.base_url}/resource")
        looks = Liveness(endpoint=endpoint, client=client, places=places)
        assert await looks.lives(Secret(minted.access_token)) is True
        assert looks.asked == "userinfo"
        assert "says nothing (http_404): it may be closed to this client" in (looks.told or "")
        assert await looks.lives(Secret("another")) is False
        without = Liveness(endpoint=endpoint, client=client, places=Places(introspection=nowhere))
        assert await without.lives(Secret(minted.access_token)) is None
        assert await without.lives(Secret(minted.access_token)) is None

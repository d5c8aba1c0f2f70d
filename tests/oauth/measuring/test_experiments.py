"""What was chosen for a server is what is measured of it, in as few logins as can be."""

import math
from typing import Any

import pytest

from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.measuring.experiments import MOST_LOGINS, Experiments
from refresher.oauth.measuring.judgement import Conclusion, conclude
from refresher.oauth.measuring.observed import Evidence, Verdict
from refresher.oauth.revocation import RevocationResult
from refresher.sandbox.families import TokenPair, TokenPolicy
from tests.oauth.measuring.model import ModelServer


async def measured(server: ModelServer, *, wait: float = 600.0) -> tuple[Conclusion, Evidence, int]:
    """What is concluded, from what, and how many grants are left."""
    experiments = Experiments(server, wait=wait, tell=lambda _: None)
    evidence = await experiments.run()
    return conclude(evidence), evidence, await experiments.clean_up()


def policy(**told: Any) -> TokenPolicy:
    return TokenPolicy(**{"access_token_lifetime": 3600.0, **told})


@pytest.mark.parametrize("looks", ["look", "use", None])
@pytest.mark.parametrize("kills", [True, False])
@pytest.mark.parametrize("answer", ["same", "sibling", "latest"])
@pytest.mark.parametrize("rotation", ["none", "strict", "grace", "until_used"])
async def test_a_profile_is_found_whatever_it_is(
    rotation: str,
    answer: str,
    kills: bool,  # noqa: FBT001  a parameter of the test
    looks: str | None,
) -> None:
    server = ModelServer(
        policy(
            rotation=rotation,
            grace_seconds=45.0,
            grace_answer=answer,
            revoke_family_on_reuse=kills,
        ),
        looks=looks,
    )
    found, evidence, left = await measured(server)
    assert str(found.rotation) == {"grace": "grace(45)"}.get(rotation, rotation)
    assert found.value("rotates") is (rotation != "none")
    assert len(server.logins) <= MOST_LOGINS
    assert left == 0
    assert server.living() == []
    assert found.value("reuse_kills_grant") is (None if rotation == "none" else kills)
    assert found.value("kills_access_token") is (None if looks is None else False)
    if rotation in {"grace", "until_used"}:
        brings = {"same": "same", "sibling": "sibling", "latest": "successor"}[answer]
        assert found.value("replay_brings") == brings
        ends = ["successor", *(["time"] if rotation == "grace" else [])]
        assert found.value("replay_ends") == ends
    assert evidence.remarks == []


@pytest.mark.parametrize(("seconds", "printed"), [(3, 3), (7, 7), (20, 20), (120, 120), (300, 300)])
async def test_a_window_is_found_to_the_second_where_it_is_short(
    seconds: int, printed: int
) -> None:
    server = ModelServer(policy(rotation="grace", grace_seconds=float(seconds)))
    found, _, _ = await measured(server)
    assert str(found.rotation) == f"grace({printed})"
    assert found.value("replay_seconds") == printed


async def test_what_is_longer_than_the_wait_is_at_least() -> None:
    server = ModelServer(policy(rotation="grace", grace_seconds=7200.0))
    begun = server.time
    found, _, _ = await measured(server, wait=60.0)
    assert server.time - begun < 60 + 4 * 20 + 10  # people at logins, and the requests
    said = next(one for one in found.findings if one.question == "replay_seconds")
    assert said.answer.startswith("at least ")
    assert 58 <= said.value <= 62  # with what the requests take
    assert str(found.rotation) == "until_used"  # nothing but that was seen to end it


async def test_without_time_nothing_is_said_of_it() -> None:
    server = ModelServer(policy(rotation="grace", grace_seconds=30.0))
    found, _, _ = await measured(server, wait=0.0)
    assert found.value("replay") is True
    assert str(found.rotation) in {"strict", "until_used"}


@pytest.mark.parametrize("most", [1, 3])
async def test_a_count_is_no_time(most: int) -> None:
    server = ModelServer(policy(rotation="until_used"), most_replays=most)
    found, evidence, _ = await measured(server)
    assert evidence.counted == most
    assert str(found.rotation) == "strict"
    assert found.value("replay_ends") == "count"
    assert found.value("replay_seconds") is None


@pytest.mark.parametrize("most", [5, 8, 12])
@pytest.mark.parametrize("kills", [True, False])
async def test_a_count_that_takes_a_while_to_reach_is_no_time(
    most: int,
    kills: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """A refresh token may be used so many times, each bringing another (Keycloak, Hydra)."""

    class Counting(ModelServer):
        def _refresh(self, value: str) -> TokenPair:
            if self._presented.get(value, 0) == most + 1 and kills:
                token = self.families.locate(value)
                assert token is not None
                self.families.revoke(token.family, because="reuse", now=self.time)
            return super()._refresh(value)

    reused = policy(rotation="grace", grace_seconds=1e6, grace_answer="sibling")
    server = Counting(reused, most_replays=most)
    found, evidence, left = await measured(server)
    assert (evidence.counted, left) == (most, 0)
    assert found.value("replay_ends") == "count"
    assert found.value("replay_seconds") is None
    assert str(found.rotation) == "strict"
    assert len(server.logins) <= MOST_LOGINS


class LateRotation(ModelServer):
    """Lets a refresh token be while there is an access token that lives."""

    def _refresh(self, value: str) -> TokenPair:
        token = self.families.locate(value)
        if token is None or token.generation != token.family.generation:
            return super()._refresh(value)
        issued_at = self._issued[token.family.family_id]
        left = math.floor(issued_at + self.policy.access_token_lifetime - self.time)
        if left <= 0 or token.family.revoked_at is not None:
            return super()._refresh(value)
        return TokenPair(
            access_token="at-again",
            refresh_token=value,
            expires_in=left,
            scope=("read",),
            generation=token.generation,
        )


async def test_a_rotation_that_waits_for_the_end_of_the_access_token_is_found() -> None:
    server = LateRotation(policy(rotation="strict", access_token_lifetime=100.0), looks=None)
    found, _, left = await measured(server)
    assert found.value("rotates") is True
    assert "once its access token has ended" in evidence_of(found, "rotates")
    assert str(found.rotation) == "strict"
    assert found.value("reuse_kills_grant") is True
    assert left == 0
    windowed = policy(rotation="grace", grace_seconds=45.0, access_token_lifetime=100.0)
    found, _, _ = await measured(LateRotation(windowed, looks=None))
    assert str(found.rotation) == "grace(45)"


@pytest.mark.parametrize(
    ("life", "told"),
    [(100.0, "also once its access token has ended"), (3600.0, "tried while its access token")],
)
async def test_how_far_no_rotation_was_looked_for_is_told(life: float, told: str) -> None:
    server = ModelServer(policy(rotation="none", access_token_lifetime=life))
    found, _, _ = await measured(server)
    assert str(found.rotation) == "none"
    assert told in evidence_of(found, "rotates")


def evidence_of(found: Conclusion, question: str) -> str:
    return next(one.evidence for one in found.findings if one.question == question)


async def test_a_slow_server_that_refuses_among_the_first_is_no_count() -> None:
    class Slow(ModelServer):
        async def present(self, refresh_token: Secret) -> Any:
            self.time += 1.5
            return await super().present(refresh_token)

    server = Slow(policy(rotation="grace", grace_seconds=4.0))
    found, evidence, _ = await measured(server)
    assert evidence.counted is None
    assert found.value("replay_ends") == ["time"]


async def test_a_grant_serves_as_long_as_it_lives() -> None:
    for told, logins in (
        ({"rotation": "none"}, 1),
        ({"rotation": "strict", "revoke_family_on_reuse": False}, 1),
        ({"rotation": "grace", "revoke_family_on_reuse": False}, 1),
        ({"rotation": "strict"}, 2),
        ({"rotation": "grace"}, 3),
    ):
        server = ModelServer(policy(**told))
        await measured(server)
        assert len(server.logins) == logins, told
    for seconds, logins in ((45.0, MOST_LOGINS - 1), (3.0, MOST_LOGINS)):
        windowed = policy(rotation="grace", grace_seconds=seconds)
        server = ModelServer(windowed, access_revocation="all")
        await measured(server)
        assert len(server.logins) == logins, seconds


@pytest.mark.parametrize(
    ("access", "refresh", "expected"),
    [("it", "all", (False, True)), ("all", "all", (True, True)), ("it", "it", (False, False))],
)
async def test_what_revoking_ends(access: str, refresh: str, expected: tuple[bool, bool]) -> None:
    server = ModelServer(
        policy(rotation="strict"), access_revocation=access, refresh_revocation=refresh
    )
    found, _, _ = await measured(server)
    assert expected == (
        found.value("revoking_access_token_kills_refresh_token"),
        found.value("revoking_refresh_token_kills_access_token"),
    )


async def test_a_server_that_revokes_no_access_tokens_still_revokes_the_others() -> None:
    server = ModelServer(policy(rotation="none"), access_revocation=None)
    found, evidence, left = await measured(server)
    assert found.value("revoking_access_token_kills_refresh_token") is None
    assert found.value("revoking_refresh_token_kills_access_token") is True
    assert evidence.dead[-1][0] == "revoked"
    assert left == 0


async def test_without_revocation_it_says_what_is_left_and_makes_up_a_dead_one() -> None:
    server = Unrevoking(policy(rotation="none"), can_revoke=False)
    found, evidence, left = await measured(server)
    assert left == 1
    assert [why for why, _ in evidence.dead] == ["never issued"]
    assert found.value("revoking_refresh_token_kills_access_token") is None


class Unrevoking(ModelServer):
    async def revoke_refresh(self, refresh_token: Secret) -> RevocationResult:
        assert refresh_token.reveal()
        return RevocationResult.UNSUPPORTED


async def test_a_refresh_that_ends_the_access_token_is_seen() -> None:
    server = ModelServer(policy(rotation="strict", revoke_access_token_on_refresh=True))
    found, _, _ = await measured(server)
    assert found.value("kills_access_token") is True


async def test_a_server_that_refuses_early_is_waited_for_and_its_window_found() -> None:
    server = ModelServer(policy(rotation="strict", access_token_lifetime=300.0), early=60.0)
    found, evidence, _ = await measured(server)
    assert evidence.early
    assert found.value("refuses_early") is True
    assert 40 <= found.settings["refresh_window"] <= 60
    assert str(found.rotation) == "strict"


async def test_a_server_that_refuses_early_for_too_long_is_said_to() -> None:
    server = ModelServer(policy(rotation="strict", access_token_lifetime=3600.0), early=60.0)
    found, evidence, left = await measured(server, wait=30.0)
    assert found.rotation is None
    assert "--wait was too short" in " ".join(evidence.remarks)
    assert left == 0


async def test_a_login_without_a_refresh_token_names_the_mend() -> None:
    server = ModelServer(policy(refresh_token_at_authorization=False))
    found, evidence, _ = await measured(server)
    assert found.value("has_refresh_token") is False
    assert "offline_access" in evidence.remarks[0]
    assert len(server.logins) == 1


async def test_a_server_that_answers_no_replay_clearly_is_not_judged() -> None:
    server = ModelServer(
        policy(rotation="grace"), fails=lambda n: Verdict.UNCLEAR if n == 2 else None
    )
    found, evidence, left = await measured(server)
    assert found.rotation is None
    assert found.value("replay") is None
    assert evidence.remarks
    assert left == 0


async def test_a_failure_in_the_middle_of_the_window_is_passed_over() -> None:
    server = ModelServer(
        policy(rotation="grace", grace_seconds=30.0),
        fails=lambda n: Verdict.UNCLEAR if n in {15, 16} else None,
    )
    found, _, _ = await measured(server)
    assert str(found.rotation) == "grace(30)"


async def test_a_further_login_that_comes_to_nothing_costs_only_its_own_questions() -> None:
    class Leaving(ModelServer):
        async def log_in(self, purpose: str) -> Any:
            if self.logins:
                raise AuthorizationFailed("the person has left")
            return await super().log_in(purpose)

    server = Leaving(policy(rotation="strict"))
    found, evidence, _ = await measured(server)
    assert str(found.rotation) == "strict"
    assert found.value("revoking_refresh_token_kills_access_token") is None
    assert "the person has left" in evidence.remarks[-1]

"""Late answers that the state machines found to leave their attempt open."""

from refresher.domain.adoption import Attempt
from refresher.domain.commit_rule import Verdict
from refresher.domain.outcomes import Refreshed
from refresher.domain.quirks import Rotation, RotationProfile
from tests.domain.desk import Desk
from tests.domain.server import Server
from tests.domain.world import NOT_SENT, NOW, REJECTED, make_client
from tests.support.renewals import presented


def at(seconds: float) -> Attempt:
    return Attempt(sent_at=NOW + seconds, ended_at=NOW + seconds, draw=0.5)


def test_a_late_answer_without_rotation_closes_its_attempt() -> None:
    """Nobody said how the server rotates, and it does not: the refresh token stays."""
    server = Server(Rotation(RotationProfile.NONE), 3600.0)
    desk = Desk.empty(make_client(Rotation(RotationProfile.UNKNOWN)), NOW)
    desk.log_in(server.authorize(NOW), at(0))
    paused = desk.claim(NOW + 2700)
    answer = server.exchange(presented(paused), NOW + 2700)
    assert isinstance(answer, Refreshed)
    desk.recover(NOW + 2701, 0.5)
    assert desk.commit(desk.claim(NOW + 2702), NOT_SENT, at(2702)) is Verdict.APPLY
    assert desk.commit(paused, answer, at(2703)) is Verdict.APPLY
    assert desk.grant.intent is None
    desk.commit(desk.claim(NOW + 6000), REJECTED, at(6000))
    assert desk.grant.reason == "refused:invalid_grant", "no exchange was open"

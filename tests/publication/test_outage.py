"""Which reasons of one absence of Redis are told, and how seldom."""

from refresher.publication.mirror.outage import SETTLED, TOLD_AGAIN, Outage

LOST, REFUSED, FULL = "connection lost", "connection refused", "out of memory"


def told(*seen: tuple[float, str]) -> list[tuple[float, str]]:
    """Those of the reasons SEEN, each with its instant, that are told."""
    outage = Outage(began_at=seen[0][0])
    return [(at, reason) for at, reason in seen if outage.is_news(reason, at)]


def test_the_first_reason_is_told_at_once_and_once() -> None:
    assert told((0, REFUSED), (1, REFUSED), (1000, REFUSED)) == [(0, REFUSED)]


def test_another_reason_is_told_once_it_has_settled() -> None:
    seen = [(0.0, LOST), (0.5, REFUSED), (2.0, REFUSED), (0.5 + SETTLED, REFUSED), (9.0, REFUSED)]
    assert told(*seen) == [(0.0, LOST), (0.5 + SETTLED, REFUSED)]


def test_a_reason_that_passes_quickly_is_not_told() -> None:
    assert told((0, FULL), (1, LOST), (2, FULL), (9, FULL)) == [(0, FULL)]


def test_every_change_of_the_cause_is_told() -> None:
    seen = [(at / 2, reason) for at, reason in enumerate([LOST] * 20 + [FULL] * 20 + [REFUSED] * 9)]
    assert [reason for _, reason in told(*seen)] == [LOST, FULL, REFUSED]


def test_a_reason_that_returns_is_told_again_later() -> None:
    seen = [(0, LOST), (1, FULL), (4, FULL), (5, LOST), (TOLD_AGAIN, LOST)]
    assert told(*seen) == [(0, LOST), (4, FULL), (TOLD_AGAIN, LOST)]


def test_two_reasons_that_take_turns_make_no_storm() -> None:
    hour = [(float(at), (LOST, FULL)[at % 2]) for at in range(3600)]
    assert 2 <= len(told(*hour)) <= 2 * (3600 / TOLD_AGAIN + 1)

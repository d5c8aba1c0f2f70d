from refresher.engine.tick import FROM_RATE, LOOKED_AT, TICK, Tick


def at_rate(rate: float, *, at_once: int = 1) -> Tick:
    tick = Tick()
    for number in range(0, 3 * LOOKED_AT, at_once):
        tick.claimed(at_once, number / rate)
    return tick


def last(rate: float) -> float:
    return (3 * LOOKED_AT - 1) / rate


def test_claims_that_come_thickly_wait_for_each_other() -> None:
    rate = 2 * FROM_RATE
    assert at_rate(rate).pause(last(rate)) == TICK
    assert at_rate(rate, at_once=5).pause(last(rate)) == TICK


def test_claims_that_come_seldom_wait_for_nothing() -> None:
    rate = FROM_RATE / 2
    assert at_rate(rate).pause(last(rate)) == 0
    assert Tick().pause(0.0) == 0


def test_the_first_claim_after_a_rest_waits_for_nothing() -> None:
    rate = 2 * FROM_RATE
    assert at_rate(rate).pause(last(rate) + 1) == 0

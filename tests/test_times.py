"""Times as people write and read them."""

import re

import pytest

from refresher import times

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("8h", 28_800), ("60d", 5_184_000), ("42", 42), (" 1.5 h ", 5400)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert times.read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "8 hours", "1e3", "1h30m", "soon", "٣s", True, None])
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="90s"):
        times.read_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-15T08:00:00Z",
        "2027-01-15T09:00+01:00",
        "20270115T080000Z",
        "1800000000",
        "1800000000.0",
    ],
)
def test_an_instant_is_read(text: str) -> None:
    assert times.read_instant(text) == NOW


def test_a_date_alone_begins_in_utc() -> None:
    assert times.read_instant("2027-01-15") == NOW - 8 * 3600
    assert times.read_instant(times.written(NOW)) == NOW


@pytest.mark.parametrize(
    "text", ["", "2027-01-15T08:00", "tomorrow", "2027-13-01", "1800000000000"]
)
def test_anything_else_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("2030-01-31T12:00:00Z")):
        times.read_instant(text)


def test_an_end_may_be_said_from_now_on() -> None:
    assert times.read_end("60d", NOW) == NOW + 60 * 86_400
    assert times.read_end("2027-01-15", NOW) == NOW - 8 * 3600
    with pytest.raises(ValueError, match="how long from now"):
        times.read_end("soon", NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (42, "42 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"),
     (172_799, "48 h"), (172_800, "2 d"), (-90, "-90 s"), (-600, "-10 min")],
)  # fmt: skip
def test_a_duration_is_told_in_one_unit(seconds: float, text: str) -> None:
    assert times.duration(seconds) == text


def test_an_instant_is_told_as_a_date_and_from_now() -> None:
    assert times.relative(NOW + 720, NOW) == "in 12 min"
    assert times.relative(NOW - 3 * 3600, NOW) == "3 h ago"
    assert times.relative(NOW, NOW) == "now"
    assert times.dated(NOW, NOW - 720) == "2027-01-15T08:00:00Z (in 12 min)"

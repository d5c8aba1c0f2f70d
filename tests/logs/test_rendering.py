"""How lines look: event and grant first, one form of instants, words and 120 columns for people."""

import json
import re
from datetime import UTC, datetime

import pytest

from refresher import logs
from refresher.logs import Event, emit
from refresher.logs.rendering import FIRST, INSTANTS, WIDTH, in_words
from tests.support.log_output import LogOutput

EXCHANGE = {
    "sequence": 3,
    "replay": False,
    "outcome": "Transient",
    "retry_s": 723.1,
    "duration_ms": 350.2,
    "state": "degraded",
    "reason": None,
    "version": 4,
    "expires_at": 1_795_000_000.25,
    "next_attempt_at": 1_795_000_100,
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Terminal(LogOutput):
    """An output that a person looks at."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def machine_line(event: Event, **fields: object) -> dict[str, object]:
    output = LogOutput()
    logs.configure(level="debug", output=output, json_lines=True)
    emit(event, **fields)
    line: dict[str, object] = json.loads(output.getvalue())
    return line


def shown(event: Event, **fields: object) -> list[str]:
    output = Terminal()
    logs.configure(level="debug", output=output)
    emit(event, **fields)
    return re.sub(r"\x1b\[\d*m", "", output.getvalue()).splitlines()


def test_a_machine_reads_event_and_grant_first() -> None:
    line = machine_line(Event.EXCHANGE_FAILED, client="crm", grant="acme", **EXCHANGE)
    assert tuple(line)[: len(FIRST)] == FIRST
    assert list(line)[len(FIRST) :] == list(EXCHANGE)


def test_every_instant_has_the_form_of_the_timestamp() -> None:
    line = machine_line(Event.EXCHANGE_FAILED, grant="acme", **EXCHANGE)
    for name in INSTANTS & line.keys():
        assert INSTANT.fullmatch(str(line[name])), name
    moment = datetime.fromisoformat(str(line["expires_at"]))
    assert moment == datetime.fromtimestamp(1_795_000_000.25, UTC)
    assert (line["duration_ms"], line["retry_s"], line["reason"]) == (350.2, 723.1, None)


def test_an_instant_that_no_calendar_has_stays_a_number() -> None:
    assert machine_line(Event.GRANT_TOKEN_SET, grant="a", expires_at=1e300)["expires_at"] == 1e300


def test_a_person_reads_words_and_nothing_that_says_nothing() -> None:
    [first, *others] = shown(Event.EXCHANGE_FAILED, client="crm", grant="acme", **EXCHANGE)
    assert re.fullmatch(
        INSTANT.pattern + " warning exchange.failed acme client=crm sequence=3 outcome=Transient "
        "retry=12 min",
        first,
    )
    assert others == [
        "    duration=350 ms state=degraded version=4 expires_at=2026-11-18T11:06:40.250Z",
        "    next_attempt_at=2026-11-18T11:08:20.000Z",
    ]


@pytest.mark.parametrize("longest", [1, 60, 400])
def test_a_terminal_of_120_columns_shows_whole_words(longest: int) -> None:
    problems = [f"problem {number} " + "word " * longest for number in range(3)]
    lines = shown(Event.SETTINGS_REFUSED, problems=problems)
    assert max(map(len, lines)) <= WIDTH
    words = " ".join(lines).split()
    assert words.count("word") == 3 * longest
    assert [words.count(f"problems=problem {n}".split()[1]) >= 1 for n in range(3)] == [True] * 3


def test_what_is_one_word_longer_than_a_line_is_all_there() -> None:
    lines = shown(Event.VAULT_SAVED, path="/" + "x" * 500)
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.count("x") for line in lines) == 500


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (172_800, "2 days"),
        (-300, "-5 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words

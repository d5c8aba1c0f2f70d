"""One definition of a version: what it is not never wins, and is repaired."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresher.domain.grants import GrantState, Publication
from refresher.logs import Event
from refresher.publication.mirror.observation import compare, observe
from refresher.publication.reports import Outcome
from refresher.publication.versions import HIGHEST, read_version
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    lines_of,
    publication,
    publishing,
    settled,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")

VERSIONS = ["0", "1", "4", "5", "6", "17", "1795000000000", str(HIGHEST - 1), str(HIGHEST)]

NO_VERSIONS = [
    *("", " ", "1e300", "1E3", "1e0", "inf", "-inf", "Infinity", "nan", "NaN", "-nan"),
    *("0x10", "0X7fffffff", "0b1", "0o7", "1_000", "1,000", "1.0", "6.", ".5", "6.0"),
    *(" 6", "6 ", "\t6", "6\n", "\n6", "6\r\n", "6\x00", "\x006", "6 7", "\u00a06"),
    *("+6", "-6", "--6", "-0", "+0", "00", "06", "000000000006", "0" * 400),
    *("\u0666", "\u096c", "\uff16", "\u00b2", "\u2165", "6\ufe0f\u20e3"),
    *(str(HIGHEST + 1), str(2**63), str(2**64), "9" * 16, "9" * 17, "9" * 400, "9" * 5000),
    *("null", "None", "true", "six", "[6]", "6;", "6'", "%d"),
]

STALLED = b"6\xff"
"""No UTF-8."""


def definition_of_lua() -> str:
    """The function of the script, to be asked about one text."""
    source = (Path(__file__).parents[2] / "refresher/publication/server/publish.lua").read_text()
    begin, end = source.index("local function order_of"), source.index("local key = KEYS[1]")
    asked = "local read = order_of(ARGV[1]); return read and string.format('%.0f', read) or 'none'"
    return source[begin:end] + asked


@pytest.mark.parametrize("text", [*VERSIONS, *NO_VERSIONS], ids=lambda text: ascii(text)[:24])
def test_python_and_lua_read_the_same(shared_valkey: Valkey, text: str) -> None:
    expected = int(text) if text in VERSIONS else None
    assert read_version(text) == expected
    with shared_valkey.client() as client:
        read = client.eval(definition_of_lua(), 0, text)
    assert read == ("none" if expected is None else str(expected))


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.integers(-10, 2**70).map(str),
        st.floats().map(str),
        st.text(alphabet="0123456789 +-.eExX_\n\x00٣", max_size=20),
        st.text(max_size=8),
    )
)
def test_python_and_lua_read_any_text_the_same(session_valkey: Valkey, text: str) -> None:
    raw = text.encode("utf-8", "replace")
    with session_valkey.client() as client:
        read = client.eval(definition_of_lua(), 0, raw)
    version = read_version(raw.decode())
    assert read == ("none" if version is None else str(version))


@pytest.mark.parametrize("text", [*NO_VERSIONS, STALLED], ids=lambda text: ascii(text)[:24])
async def test_what_is_no_version_never_wins(shared_valkey: Valkey, text: Any) -> None:
    with shared_valkey.client() as client:
        client.hset(TOKEN, mapping={"version": text, "access_token": "planted"})
        client.hset(STATUS, mapping={"revision": text, "state": "made up", "version": text})
    async with publishing(shared_valkey.url) as publisher:
        found = (await observe(publisher, ["acme"]))["acme"]
        assert (found.version, found.revision) == (-1, -1)
        assert compare(publication(version=5), found, CLOCK.now())
        report = await publisher.publish([publication(version=5)], now=CLOCK.now())
    assert report.tokens == report.statuses == {"acme": Outcome.WRITTEN}
    with shared_valkey.client() as client:
        assert client.hget(TOKEN, "version") == "5"
        assert client.hget(STATUS, "revision") == "5"


ENDED: dict[str, Publication] = {
    "expired": publication(version=5, life=-60, state=GrantState.EXPIRED),
    "live": publication(version=5),
}


@pytest.mark.parametrize("row", ENDED.values(), ids=ENDED.keys())
@pytest.mark.parametrize("text", ["1e300", "inf", "0x7fffffff", "", str(HIGHEST + 1)])
async def test_what_is_no_version_is_repaired(
    shared_valkey: Valkey, row: Publication, text: str
) -> None:
    async with settled(shared_valkey, Rows(row)) as (_, lines):
        with shared_valkey.client() as client:
            client.hset(TOKEN, mapping={"version": text, "access_token": "planted"})
            client.expire(TOKEN, 500)
            await eventually(lambda: "planted" not in json.dumps(client.hgetall(TOKEN)), "repair")
            client.hset(STATUS, "revision", text)
            await eventually(lambda: client.hget(STATUS, "revision") == "5", "its repair")
        assert lines_of(lines, Event.FOREIGN_OVERWRITTEN) == []
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "its line")

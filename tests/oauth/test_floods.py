"""What a hostile server sends costs the loop little, however much it is and however slowly (G8)."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp.http import RawResponseMessage

from refresher.domain.outcomes import OutcomeUnknown
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import connections, post, second_reader
from tests.oauth.framing import JSON, head, is_adopted, length_of
from tests.oauth.world import RawServer, make_client, refreshed, replying, serving

OPEN = b'{"a":[' * 8 + b"1," * 150_000
"""JSON that never closes: each of its braces may be where the answer begins."""

UNREADABLE = head(b"Content-Type: application/json", b"Odd\0Name")
"""A head that the library refuses, so that the second reader looks."""


class Looks:
    """Counts what the second reader is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        read = second_reader.read

        def counted(received: bytes) -> second_reader.Reading | None:
            self.sizes.append(len(received))
            return read(received)

        monkeypatch.setattr(post, "read", counted)


async def test_a_flood_that_trickles_on_is_looked_at_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(UNREADABLE + OPEN)
        while True:
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(b"1,")

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url, deadline=4.0)
    assert isinstance(outcome, OutcomeUnknown)
    large = [size for size in looks.sizes if size > post.CHEAP_LOOK]
    assert len(large) <= 8, large


async def test_a_large_answer_that_the_library_refuses_is_adopted_all_the_same() -> None:
    """It comes in pieces, each less than what came before."""
    body = b'{"padding": "' + b"x" * 100_000 + b'", ' + JSON[1:]
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    async with replying(UNREADABLE + pieces[0], *pieces[1:], hang=True) as raw:
        outcome = await refreshed(raw.url, deadline=20.0)
    assert is_adopted(outcome)


async def test_few_of_many_interim_answers_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    read = connections.Wire._read

    def counted(wire: connections.Wire, message: RawResponseMessage) -> None:
        parsed.append(message.code)
        read(wire, message)

    monkeypatch.setattr(connections.Wire, "_read", counted)

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        with suppress(ConnectionError):
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)
                await writer.drain()

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url)
    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == "interim_answers"
    assert 0 < len(parsed) <= 2 * connections.PIECE / len(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_an_answer_of_many_pieces_is_read_by_the_library() -> None:
    body = b'{"padding": "' + b"x" * 200_000 + b'", ' + JSON[1:]
    async with replying(head(length_of(body)) + body) as raw, TokenEndpoint() as endpoint:
        outcome = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT1")), patience=Patience(9)
        )
    assert is_adopted(outcome)
    assert not outcome.answer.is_searched  # type: ignore[union-attr]  # it is adopted


@pytest.mark.parametrize("end", [b"", b'"refresh_token": 1', b"}" * 40])
def test_json_that_never_closes_is_tried_within_bounds(
    monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    tried = []
    closing = second_reader._closing

    def counted(body: bytes, encoding: str) -> bytes | None:
        tried.append(len(body))
        return closing(body, encoding)

    monkeypatch.setattr(second_reader, "_closing", counted)
    reading = second_reader.read(head() + OPEN + end)
    assert reading is not None
    assert not reading.closes
    assert sum(tried) <= 4 * len(OPEN + end) + 2 * second_reader.MOST_TRIED + 100


@pytest.mark.parametrize("before", [b"{", b'{"a": ', b"body { color: red } " * 5])
def test_an_object_behind_others_is_found_in_a_large_answer(before: bytes) -> None:
    body = before + b'{"padding": "' + b"x" * 60_000 + b'", ' + JSON[1:]
    reading = second_reader.read(head() + b"<html>" + body)
    assert reading is not None
    assert reading.closes
    assert b'"RT2"' in reading.body

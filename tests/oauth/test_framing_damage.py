"""Whatever is done to the framing of a good answer, nothing of it is lost."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Self

from hypothesis import given, settings
from hypothesis import strategies as st

from refresher.domain.outcomes import Outcome
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.framing import CHUNKED, GOOD, JSON, TYPE, chunked, head, is_adopted, length_of
from tests.oauth.world import RawServer, make_client, serving


def _damaged(answer: bytes, damages: list[tuple[int, int, bytes]]) -> bytes:
    """ANSWER with its framing damaged: the JSON in it stays whole."""
    begin = answer.index(JSON)
    ends = [answer[:begin], answer[begin + len(JSON) :]]
    for place, cut, extra in damages:
        at = place % (len(ends[0]) + len(ends[1]) + 1)
        part = 0 if at <= len(ends[0]) else 1
        at -= part * len(ends[0])
        ends[part] = ends[part][:at] + extra + ends[part][at + cut :]
    return ends[0] + JSON + ends[1]


damage = st.tuples(
    st.integers(0, 400),
    st.integers(0, 12),
    st.one_of(
        st.binary(max_size=4),
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"0\r\n", b"ff\r\n", b"\t",
             b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"X" * 70_000, b"<"]
        ),
    ),
)  # fmt: skip
frames = st.sampled_from(
    [
        GOOD,
        head(TYPE.strip(), length_of(JSON), b"Connection: keep-alive", b"X-A: b") + JSON,
        head(CHUNKED) + chunked(JSON),
        head(CHUNKED, TYPE.strip()) + chunked(JSON) + b"X-Trailer: a\r\n\r\n",
        head(b"Connection: close") + JSON,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + GOOD,
    ]
)
STATUS = re.compile(rb"[\s\0]*HTTP/1\.1 200 ")


class Damager:
    """One server and one transport for many examples: each exchange gets a scripted answer."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self._pieces: tuple[bytes, ...] = ()

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())

    async def _start(self) -> None:
        self._raw = await self._stack.enter_async_context(serving(self._handle))
        self._endpoint = await self._stack.enter_async_context(TokenEndpoint())

    async def _handle(
        self, raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await raw.read_request(reader)
            for piece in self._pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)  # so that pieces travel one by one
            writer.close()
            await writer.wait_closed()
        finally:
            self._is_done.set()

    def outcome_of(self, *pieces: bytes) -> Outcome:
        self._pieces = pieces
        return self._runner.run(self._refresh())

    async def _refresh(self) -> Outcome:
        self._is_done = asyncio.Event()
        client = make_client(self._raw.url)
        outcome = await self._endpoint.refresh(
            client, RefreshToken(Secret("RT1")), patience=Patience(5)
        )
        await self._is_done.wait()
        return outcome


def test_no_damage_to_the_framing_loses_a_token() -> None:
    with asyncio.Runner() as runner, Damager(runner) as damager:

        @settings(max_examples=100, deadline=None, database=None)
        @given(frames, st.lists(damage, min_size=1, max_size=3), st.integers(1, 200))
        def is_adopted_or_kept(
            answer: bytes, damages: list[tuple[int, int, bytes]], cut: int
        ) -> None:
            damaged = _damaged(answer, damages)
            outcome = damager.outcome_of(damaged[:cut], damaged[cut:])
            if not is_adopted(outcome) and STATUS.match(damaged):
                body = getattr(outcome, "body", None)
                assert body is not None
                assert JSON in body.replace(b"\r\n", b"")

        is_adopted_or_kept()

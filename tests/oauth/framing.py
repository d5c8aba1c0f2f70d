"""A token response, and ways to put it into HTTP."""

import json

from refresher.domain.outcomes import Outcome, Refreshed
from refresher.domain.secret import Secret
from tests.oauth.world import TOKENS

JSON = json.dumps(TOKENS).encode()
PRETTY = json.dumps(TOKENS, indent=2).encode()
TYPE = b"Content-Type: application/json\r\n"


def head(*fields: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (status, *fields)) + b"\r\n"


def length_of(body: bytes, *, short_by: int = 0) -> bytes:
    return b"Content-Length: %d" % (len(body) - short_by)


def chunked(body: bytes, *, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


GOOD = head(length_of(JSON)) + JSON
CHUNKED = b"Transfer-Encoding: chunked"


def is_adopted(outcome: Outcome) -> bool:
    return (
        isinstance(outcome, Refreshed)
        and outcome.answer.refresh_token == Secret("RT2")
        and outcome.answer.access_token == Secret("AT2")
    )

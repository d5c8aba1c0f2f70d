"""The command's end of the control socket."""

import io
import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp

from refresher.domain.secret import Secret
from refresher.errors import ControlUnavailable, RefresherError
from refresher.ops.protocol import JSON, Fault, Sendable

ANSWER_WITHIN = 60.0
"""Seconds a command waits by default: a login's exchange may take 30 of them."""


class ControlError(RefresherError):
    """Raised when the daemon answered with an error, or took the request and did not answer.

    Args:
        kind: the class name of the daemon's ``RefresherError``, or a ``Fault``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(error: RefresherError) -> str:
    """The class name of ERROR, raised here or by the daemon."""
    return error.kind if isinstance(error, ControlError) else type(error).__name__


class ControlClient:
    """Asks the daemon that listens on PATH."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(
        self, operation: str, /, *, answer_within: float = ANSWER_WITHIN, **parameters: Sendable
    ) -> JSON:
        """What OPERATION answers to PARAMETERS, in at most ANSWER_WITHIN seconds.

        Raises:
            ControlUnavailable: nobody listens, so nothing was sent.
            ControlError: the daemon refused, or (kind ``NoAnswer``) was asked and fell
                silent: what was asked for may still happen, do not do it yourself.
        """
        status, text = await self._post(operation, _encode(parameters), answer_within)
        answer = _decode(text)
        if status == HTTPStatus.OK and "result" in answer:
            return answer["result"]
        match answer.get("error"):
            case {"kind": str(kind), "message": str(message)}:
                raise ControlError(kind, message)
            case _:
                raise ControlError(
                    Fault.NO_ANSWER, f"whatever listens on {self._path} is no refresher daemon"
                )

    async def _post(self, operation: str, body: bytes, answer_within: float) -> tuple[int, bytes]:
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(self._path)),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=answer_within),
                ) as session,
                session.post(
                    f"http://localhost/v1/{operation}", data=io.BytesIO(body), allow_redirects=False
                ) as response,
            ):
                return response.status, await response.read()
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise ControlError(
                Fault.NO_ANSWER,
                f"the daemon did not answer {operation} within {answer_within:g} s; "
                "it may still carry it out",
            ) from error
        except aiohttp.ClientError as error:
            raise ControlError(
                Fault.NO_ANSWER,
                f"the daemon closed the connection before it answered {operation}; "
                "it may have carried it out",
            ) from error

    def _unreachable(self, error: aiohttp.ClientConnectorError) -> RefresherError:
        if isinstance(error.os_error, PermissionError):
            return ControlError(
                Fault.PERMISSION_DENIED,
                f"the control socket {self._path} belongs to another user: "
                "run this as the daemon's user or as root",
            )
        return ControlUnavailable(f"no daemon answers on the control socket {self._path}")


def _encode(parameters: Mapping[str, Sendable]) -> bytes:
    return json.dumps(parameters, allow_nan=False, default=_reveal).encode()


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"a parameter of type {type(value).__name__} cannot be sent")


def _decode(text: bytes) -> Mapping[str, JSON]:
    """The answer's object, empty if it is none; a decoding error would carry the text."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}

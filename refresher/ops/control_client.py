"""The command's end of the control socket."""

import json
from collections.abc import Mapping
from pathlib import Path

import anyio

from refresher.domain.secret import Secret
from refresher.errors import ControlError, ControlUnavailable, RefresherError
from refresher.ops.asking import Answer, CutOff, ask
from refresher.ops.protocol import JSON, TYPES, Fault, Sendable

ANSWER_WITHIN = 60.0
"""Seconds a command waits by default: a login's exchange may take 30 of them."""

OK = 200


class ControlClient:
    """Asks the daemon that listens on PATH."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(
        self, operation: str, /, *, answer_within: float = ANSWER_WITHIN, **parameters: Sendable
    ) -> Mapping[str, JSON]:
        """What OPERATION answers to PARAMETERS, in at most ANSWER_WITHIN seconds.

        Raises:
            ControlUnavailable: nobody listens, so nothing was sent.
            ControlError: the daemon refused, or (kind ``NoAnswer``) was asked and fell
                silent: what was asked for may still happen, do not do it yourself.
        """
        came = await self._post(operation, _encode(parameters), answer_within)
        answer = _decode(came.body)
        if came.status == OK and answer is not None and list(answer) != ["result"]:
            return answer
        match answer:
            case {"type": str(kind), "detail": str(detail)} if kind.startswith(TYPES):
                raise ControlError(kind.removeprefix(TYPES), detail)
            case {"result": _} | {"error": _}:
                raise ControlError(
                    Fault.NO_ANSWER,
                    f"the daemon on {self._path} is older than this command: restart it",
                )
            case _:
                raise ControlError(
                    Fault.NO_ANSWER, f"whatever listens on {self._path} is no refresher daemon"
                )

    async def _post(self, operation: str, body: bytes, answer_within: float) -> Answer:
        try:
            with anyio.fail_after(answer_within):
                return await ask(self._path, "POST", f"/v1/{operation}", body)
        except TimeoutError as error:
            raise ControlError(
                Fault.NO_ANSWER,
                f"the daemon did not answer {operation} within {answer_within:g} s; "
                "it may still carry it out",
            ) from error
        except OSError as error:
            raise self._unreachable(error) from error
        except CutOff as error:
            raise ControlError(
                Fault.NO_ANSWER,
                f"the daemon closed the connection before it answered {operation}; "
                "it may have carried it out",
            ) from error

    def _unreachable(self, error: OSError) -> RefresherError:
        if isinstance(error, PermissionError):
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


def _decode(text: bytes) -> Mapping[str, JSON] | None:
    """The answer's object, None if it is none; a decoding error would carry the text."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None

"""Sending one message: as a signed POST (Standard Webhooks), or to a command."""

import base64
import hashlib
import hmac
import os
import signal
import subprocess
from contextlib import suppress

import aiohttp
import anyio
from anyio.abc import Process

from refresher import __version__
from refresher.domain.notifications import Notification, Target, signing_key

WITHIN = 20.0
"""Seconds a webhook may take to answer; Standard Webhooks asks for 15 to 30."""

COMMAND_WITHIN = 30.0
"""Seconds a command may take; then it is killed with whatever it has started."""


async def send(target: Target, notification: Notification, now: float) -> str | None:
    """Send NOTIFICATION to TARGET; None once it is taken, else why it is not, in a word.

    The word holds nothing of the URL, the command or what either has said.
    """
    if target.command:
        return await _run(target, notification.body.encode())
    return await _post(target, notification, now)


def message_id(notification: Notification) -> str:
    """By what a receiver knows that it has a message already: the same at each attempt."""
    told = f"{notification.target}:{notification.made_at!r}:{notification.body}".encode()
    return f"msg_{hashlib.sha256(told).hexdigest()[:32]}"


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """What signs BODY, sent under the id MESSAGE at TIMESTAMP: version 1, symmetric."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


async def _post(target: Target, notification: Notification, now: float) -> str | None:
    assert target.url is not None
    assert target.key is not None
    body, message, timestamp = notification.body.encode(), message_id(notification), int(now)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"refresher/{__version__}",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(signing_key(target.key.reveal()), message, timestamp, body),
    }
    try:
        async with (
            aiohttp.ClientSession(
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=WITHIN),
            ) as session,
            session.post(
                target.url.reveal(), data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            return None if 200 <= response.status < 300 else f"http_{response.status}"  # noqa: PLR2004  the class of status codes
    except TimeoutError:
        return "timeout"
    except aiohttp.ClientSSLError:
        return "tls"
    except (aiohttp.ClientError, OSError, ValueError):
        # Its text may quote the URL, which may be all that it takes to post there.
        return "unreachable"


async def _run(target: Target, body: bytes) -> str | None:
    try:
        process = await anyio.open_process(
            target.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=target.environment,
            cwd=target.folder,
            start_new_session=True,
        )
    except (OSError, ValueError):
        return "not_started"
    try:
        with anyio.fail_after(COMMAND_WITHIN):
            await _feed(process, body)
            code = await process.wait()
    except TimeoutError:
        return "timeout"
    finally:
        _end(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    return None if code == 0 else f"exit_{code}"


async def _feed(process: Process, body: bytes) -> None:
    assert process.stdin is not None
    # Its exit code decides, also where it does not read to the end.
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(body + b"\n")
    with suppress(anyio.BrokenResourceError, OSError):
        await process.stdin.aclose()


def _end(process: Process) -> None:
    """Kill what is left of PROCESS and of whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

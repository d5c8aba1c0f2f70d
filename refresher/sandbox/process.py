"""The sandbox as a process of its own: options, the line that says where, the signals."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import anyio

from refresher.sandbox.options import SandboxOptions
from refresher.sandbox.server import Sandbox


def parse(arguments: Sequence[str]) -> SandboxOptions:
    """Options from the command line; ends the process with status 2 on a mistake."""
    parser = argparse.ArgumentParser(
        prog="refresher sandbox",
        description="An OAuth 2.0 authorization server with scripted faults, on loopback.",
    )
    parser.add_argument("--port", type=int, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--options-json",
        metavar="FILE|JSON",
        default="{}",
        help="a JSON object, or a file with one: the fields of SandboxOptions",
    )
    given = parser.parse_args(arguments)
    try:
        options = SandboxOptions.from_json_or_file(given.options_json)
        return options if given.port is None else replace(options, port=given.port)
    except (OSError, ValueError) as error:
        _complain(parser, error)


def run(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT.

    Prints one line of JSON, ``{"base_url": ...}``, when it listens. Returns the exit code: 1
    where the port cannot be had.
    """
    options = parse(arguments)
    code = 0
    try:
        anyio.run(_serve, options)
    except* OSError as group:
        code = 1
        for error in group.exceptions:
            sys.stderr.write(f"refresher sandbox: {error}\n")
    return code


async def _serve(options: SandboxOptions) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with Sandbox(options) as sandbox:
            sys.stdout.write(json.dumps({"base_url": sandbox.base_url}) + "\n")
            sys.stdout.flush()
            async for _ in signals:
                return


def _complain(parser: argparse.ArgumentParser, error: Exception) -> NoReturn:
    parser.error(str(error))

"""``refresher import``: grants that another system authorized, as JSON Lines."""

import asyncio
import codecs
import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice, pairwise
from typing import IO, Any

import click

from refresher.app.calls import ImportedGrant, read_call
from refresher.cli.calling import calling, load_settings, run
from refresher.cli.saying import say
from refresher.domain.reasons import Reason
from refresher.errors import ParameterRefused, RefresherError
from refresher.settings.secret_places import Needed
from refresher.times import read_instant

FIELDS = (
    *("name", "client", "refresh_token", "access_token", "expires_at", "token_type"),
    *("scope", "labels"),
)
"""Every field of a line."""

REQUIRED = ("name", "client", "refresh_token")

MANY = 200
"""Lines sent at once: each time what became of them is printed. Exchanges wait so long for the
vault's one writer."""


class ImportRefused(RefresherError):
    """Raised when a file has lines that cannot be imported; then nothing was imported."""


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--replace", is_flag=True, help="Adopt refresh tokens even if they were adopted once before."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a grant.")
@click.pass_context
def import_command(context: click.Context, file: IO[bytes], replace: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Add grants from FILE (- for stdin), one JSON object a line.

    \b
    {"name": "acme", "client": "crm", "refresh_token": "...",
     "access_token": "...", "expires_at": "2030-01-31T12:00:00Z",
     "scope": "read write", "labels": {"access": "full"}}

    name, client and refresh_token are required; expires_at may be in unix seconds. Every
    line is checked before the first grant is added: a file with a bad line adds nothing
    and names the line. What became of each is printed as it comes. Run it again if it was
    interrupted: what is imported stays as it is. A large file is read twice and never held;
    what comes through a pipe is. A refresh token that was adopted before is left alone, for the
    vault knows its successor; --replace takes it all the same.
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    settings = load_settings(context)
    clients = set(settings.clients)
    lines: Iterable[bytes] = file if file.seekable() else list(file)
    count = check_lines(lines, clients)
    if file.seekable():
        file.seek(0)
    grants = (grant for _, grant, _ in _read(lines, clients) if grant is not None)

    def read_some() -> list[dict[str, Any]]:
        return list(islice(grants, MANY))

    async def send() -> None:
        done = 0
        async with calling(settings, needed=Needed.REDIS) as call:
            with _progress(count) as bar:
                batch = read_some()
                while batch:
                    # The daemon works on these lines while the next are read.
                    ahead = asyncio.ensure_future(asyncio.to_thread(read_some))
                    try:
                        answer = await call("import", grants=batch, replace=replace)
                    except RefresherError as error:
                        kept = f"; the {done} grants before are imported" if done else ""
                        raise ImportRefused(f"{error}{kept}") from error
                    finally:
                        batch = await ahead
                    added = answer["grants"]
                    done += len(added)
                    say("\n".join(json.dumps(one) if as_json else _told(one) for one in added))
                    if bar is not None:
                        bar.update(len(added))

    run(send)


def _progress(count: int) -> Any:
    """A bar on stderr for COUNT grants, where somebody sees it and it is in nobody's way."""
    if count <= MANY or not sys.stderr.isatty() or sys.stdout.isatty():
        return nullcontext()
    return click.progressbar(length=count, label="importing", file=sys.stderr, show_pos=True)


def _told(grant: dict[str, Any]) -> str:
    """What became of a line, and what a person must do where its token was not taken."""
    told = f"{grant['name']}: {grant['result']}, {grant['state']}"
    if grant["reason"] == Reason.SEED_SPENT:
        told += f": its refresh token was adopted or rejected before; {grant['repair']}"
    if grant["exchange_out"]:
        told += "; an earlier exchange is still out and no longer counts"
    return told


def check_lines(lines: Iterable[bytes], clients: set[str]) -> int:
    """How many grants there are in LINES, every one checked.

    Nothing is kept of a line but two numbers of eight bytes: of a million, 16 MB.

    Raises:
        ImportRefused: names every bad line by its number, never by its content.
    """
    problems: dict[int, str] = {}
    numbers, names, tokens = array("Q"), array("q"), array("q")
    for number, grant, problem in _read(lines, clients):
        if grant is None:
            problems[number] = problem
            continue
        numbers.append(number)
        names.append(hash(grant["name"]))
        tokens.append(hash((grant["client"], grant["refresh_token"])))
    for what, marks in (("refresh token", tokens), ("name", names)):
        for number, first in _repeated(marks, numbers):
            problems[number] = f"its {what} stands on line {first} too"
    if problems:
        told = [f"line {number}: {problem}" for number, problem in sorted(problems.items())]
        raise ImportRefused("\n".join([*told, "nothing was imported"]))
    return len(numbers)


def _repeated(marks: Sequence[int], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The lines whose mark stood on an earlier one, and that one."""
    several = {one for one, other in pairwise(sorted(marks)) if one == other}
    if not several:
        return
    first: dict[int, int] = {}
    for mark, number in zip(marks, numbers, strict=True):
        if mark in several and first.setdefault(mark, number) != number:
            yield number, first[mark]


def _read(
    lines: Iterable[bytes], clients: set[str]
) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """Each line that is not blank: its number, and its grant or what is wrong with it."""
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if text.strip():
            grant, problem = _read_line(text, clients)
            yield number, grant, problem or ""


def _read_line(line: bytes, clients: set[str]) -> tuple[dict[str, Any] | None, str | None]:
    """The grant in LINE, or what is wrong with it, without quoting a value of it."""
    try:
        content = json.loads(line.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except _TwiceError:
        return None, "a field stands twice"
    except (ValueError, RecursionError):
        return None, "not valid JSON"
    if not isinstance(content, dict):
        return None, "not a JSON object"
    if unknown := sorted(set(content) - set(FIELDS)):
        return None, f"unknown field {unknown[0][:40]!a}: there are {', '.join(FIELDS)}"
    for field in REQUIRED:
        value = content.get(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None, f"{field} is missing"
    if isinstance(content.get("expires_at"), str):
        try:
            content["expires_at"] = read_instant(content["expires_at"])
        except ValueError as error:
            return None, f"expires_at {error}"
    try:
        grant = read_call(ImportedGrant, content)
    except ParameterRefused as refused:
        return None, str(refused)
    if grant.client not in clients:
        known = ", ".join(sorted(clients)) or "none"
        # Not quoted: whoever took one field for another has a token there.
        return None, f"there is no client of this name: there are {known}"
    return content | {"scope": grant.scope or [], "labels": grant.labels or {}}, None


class _TwiceError(ValueError):
    """Raised for a field that stands twice in an object: which one is meant?"""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _TwiceError
    return content


COMMANDS = (import_command,)

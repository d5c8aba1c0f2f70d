"""``refresher import``: grants that another system authorized, as JSON Lines."""

import codecs
import json
from collections.abc import Iterable
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

MANY = 500
"""Lines sent at once: progress is shown between, and one request stays small."""


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
    and names the line. A refresh token that was adopted before is left alone, for the
    vault knows its successor; --replace takes it all the same.
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    settings = load_settings(context)
    grants = read_lines(file, set(settings.clients))
    done: list[dict[str, Any]] = []

    async def send() -> None:
        async with calling(settings, needed=Needed.REDIS) as call:
            for start in range(0, len(grants), MANY):
                batch = grants[start : start + MANY]
                try:
                    answer = await call("import", grants=batch, replace=replace)
                except RefresherError as error:
                    kept = f"; the {len(done)} grants before are imported" if done else ""
                    raise ImportRefused(f"{error}{kept}") from error
                done.extend(answer["grants"])
                if len(grants) > MANY:
                    say(f"{len(done)} of {len(grants)}", err=True)

    run(send)
    for grant in done:
        if as_json:
            say(json.dumps(grant))
        else:
            say(_told(grant))


def _told(grant: dict[str, Any]) -> str:
    """What became of a line, and what a person must do where its token was not taken."""
    told = f"{grant['name']}: {grant['result']}, {grant['state']}"
    if grant["reason"] == Reason.SEED_SPENT:
        told += f": its refresh token was adopted or rejected before; {grant['repair']}"
    if grant["exchange_out"]:
        told += "; an earlier exchange is still out and no longer counts"
    return told


def read_lines(lines: Iterable[bytes], clients: set[str]) -> list[dict[str, Any]]:
    """The grants in LINES, every one checked; blank lines are passed over.

    Raises:
        ImportRefused: names every bad line by its number, never by its content.
    """
    problems: list[str] = []
    grants: list[dict[str, Any]] = []
    names: dict[str, int] = {}
    tokens: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        content, problem = _read_line(text, clients)
        if content is not None:
            token = (content["client"], content["refresh_token"])
            if (first := names.setdefault(content["name"], number)) != number:
                problem = f"grant {content['name']} stands on line {first} too"
            elif (first := tokens.setdefault(token, number)) != number:
                problem = f"its refresh token stands on line {first} too"
        if problem is not None or content is None:
            problems.append(f"line {number}: {problem}")
            continue
        grants.append(content)
    if problems:
        raise ImportRefused("\n".join([*problems, "nothing was imported"]))
    return grants


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

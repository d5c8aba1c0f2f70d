"""What the READMEs say, piece by piece, and what the code says of the same."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from refresher.cli.entry import EXIT_CODES, cli
from refresher.logs import EVENTS
from refresher.oauth.error_codes import MEANINGS, Meaning
from refresher.ops.metric_catalogue import METRICS
from refresher.settings.describe import describe
from tests.pages.catalogue import HEADS, provider_rows
from tests.pages.independent import INDEPENDENT_HEADS, independent_rows

ROOT = Path(__file__).parent.parent.parent

README = ROOT / "README.md"

PAGES: tuple[Path, ...] = (
    README,
    *sorted(
        page
        for room in ("deploy", "refresher", "tests")
        for page in (ROOT / room).rglob("README.md")
    ),
)
"""Every page of the documentation but the security page, which has a test of its own."""

CONTEXT = click.Context(cli)


def offered(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of GROUP and of the groups in it, each with all of its words."""
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        if command is not None and (
            not isinstance(command, click.Group) or command.invoke_without_command
        ):
            yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from offered(command, f"{before}{name} ")


COMMANDS: Mapping[str, click.Command] = dict(offered(cli))
GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}

MEANING_OF_CODES = {
    Meaning.GRANT: "GrantRejected",
    Meaning.CLIENT: "ClientRejected",
    Meaning.CONFIGURATION: "Misconfigured",
    Meaning.PROOF: "ProofDemanded",
    Meaning.REQUEST: "RequestRejected",
    Meaning.LATER: "Transient",
    Meaning.FAILED: "OutcomeUnknown",
}


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> str:
    told = ((code(name), each.get_short_help_str(200)) for name, each in COMMANDS.items())
    return table(("Command", "What it does"), told)


def exit_codes() -> str:
    lines = re.findall(r"^ +(\d+) +(.+)$", EXIT_CODES, flags=re.MULTILINE)
    return table(("Code", "Meaning"), ((code(number), text) for number, text in lines))


def settings() -> str:
    lines = ((code(e.key), e.type, code(e.default), e.description) for e in describe())
    return table(("Key", "Type", "Default", "Meaning"), lines)


def events() -> str:
    lines = ((code(event), entry.level, entry.meaning) for event, entry in EVENTS.items())
    return table(("Event", "Level", "Meaning"), lines)


def metrics() -> str:
    lines = (
        (code(metric.sample), metric.kind, ", ".join(map(code, metric.labels)), metric.meaning)
        for metric in METRICS
    )
    return table(("Metric", "Kind", "Labels", "Meaning"), lines)


def error_codes() -> str:
    lines = (
        (outcome, ", ".join(code(word) for word, found in MEANINGS.items() if found is meaning))
        for meaning, outcome in MEANING_OF_CODES.items()
    )
    return table(("Outcome", "Error codes"), lines)


def providers() -> str:
    return table(HEADS, provider_rows())


def independent_servers() -> str:
    return table(INDEPENDENT_HEADS, independent_rows())


GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exit codes": exit_codes,
    "error codes": error_codes,
    "settings": settings,
    "events": events,
    "metrics": metrics,
    "providers": providers,
    "independent servers": independent_servers,
}
"""What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""


def rewritten(text: str) -> str:
    """TEXT of a page with its generated parts as the code has them now."""
    for name, generate in GENERATED.items():
        beginning, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, mark, rest = text.partition(beginning)
        if mark:
            _, other_mark, after = rest.partition(end)
            assert other_mark, f"{end.strip()} is missing"
            text = before + beginning + generate() + end + after
    return text


SAMPLE = r"(<!-- sample {} -->\n```console\n)(.*?)(```\n<!-- /sample)"
"""A sample output of the top page, between what begins and what ends it."""


def shown(text: str) -> dict[str, str]:
    """The sample outputs in TEXT by their names."""
    found = re.findall(r"<!-- sample (\w+) -->", text)
    return {name: _sample(name, text)[2].rstrip("\n") for name in found}


def with_samples(text: str, samples: Mapping[str, str]) -> str:
    """TEXT with other SAMPLES in the places of these names."""
    for name, sample in samples.items():
        place = _sample(name, text)
        text = text[: place.start(2)] + sample + "\n" + text[place.end(2) :]
    return text


def _sample(name: str, text: str) -> re.Match[str]:
    found = re.search(SAMPLE.format(name), text, flags=re.DOTALL)
    assert found, f"there is no place for the sample {name}"
    return found


def all_pages() -> str:
    """The text of every page, one after the other."""
    return "\n".join(page.read_text() for page in PAGES)


def blocks(language: str) -> list[str]:
    """The fenced blocks of LANGUAGE in all pages, without their fences."""
    return blocks_of(language, all_pages())


def blocks_of(language: str, text: str) -> list[str]:
    """The fenced blocks of LANGUAGE in TEXT, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """What stands below HEADING of any page, up to the next heading of any depth."""
    _, found, rest = all_pages().partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(heading: str) -> set[str]:
    """The words in backquotes that begin the rows of the table below HEADING."""
    return set(re.findall(r"^\| `([^`]+)`", section(heading), flags=re.MULTILINE))


COMMAND = rf"((?:{'|'.join(sorted(GROUPS))}) [a-z][a-z-]*|[a-z][a-z-]*)"
"""All words of a command as it is typed."""


def calls(script: str) -> list[tuple[str, set[str]]]:
    """Command and options of every call of refresher in SCRIPT."""
    found = re.findall(
        rf"(?:^|[\s(/])refresher (?!refresher)(?:--config \S+ )?{COMMAND}([^|;&)\n]*)",
        script.replace("\\\n", " "),
        flags=re.MULTILINE,
    )
    return [(name, set(re.findall(r"--[a-z-]+", rest))) for name, rest in found]

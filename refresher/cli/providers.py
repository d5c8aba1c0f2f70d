"""``refresher providers``: the catalogue for a person, without the network."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import click

from refresher.cli.listing import Listed, ListedCommands
from refresher.cli.saying import say
from refresher.providers import NEEDS, Provider, all_providers, find_provider, provider_names
from refresher.providers.entries import NEVER, ClientKeys
from refresher.providers.lines import keys_to_fill_in, settings_lines
from refresher.settings.report import suggestion

WIDTH = 79
"""Columns of the list and of every text."""

COLUMNS = (17, 24, 12)
"""Columns of name, title and rotation; the rest is what a client needs."""

ENDPOINTS = (
    *("authorization_endpoint", "token_endpoint", "refresh_endpoint", "exchange_endpoint"),
    *("revocation_endpoint", "introspection_endpoint", "discovery"),
)

TOKENS: Mapping[str, str] = {
    "rotation": "rotation",
    "rotation_varies": "rotation",
    "access_token_lifetime": "access token lives",
    "refresh_token_idle": "refresh token, unused",
    "refresh_token_absolute": "refresh token, at most",
    "lifetimes_vary": "lifetimes",
    "has_refresh_token": "has refresh tokens",
    "kills_access_token": "ends the token before",
    "reuse_kills_grant": "reuse ends the grant",
    "live_refresh_tokens": "refresh tokens at once",
    "quotas": "token requests",
    "refresh_window": "refreshed in the last",
    "refresh_token_scope": "scope that is added",
}
"""Facts about tokens in the order they are shown, and what they are called."""

ROTATIONS: Mapping[str, str] = {
    "none": "the refresh token stays valid",
    "grace": "the used one works for",
    "until_used": "the used one works until its successor is used",
    "strict": "the used one is dead at once",
    "unknown": "nobody knows",
}

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


PARTS = {
    "measure": Listed("measuring", "Measure what the server of CLIENT does with refresh tokens."),
}


class _NameOrCommand(ListedCommands):
    """A command that takes a NAME, unless the word there is a command of its own."""

    allow_interspersed_args = True

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        first = args[0] if args else ""
        if first in PARTS and (command := self.get_command(click.Context(self), first)):
            return command.make_context(f"{info_name} {first}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        return click.Command.invoke(self, ctx)


@click.command(
    "providers",
    cls=_NameOrCommand,
    sections={"Commands": PARTS},
    invoke_without_command=True,
    subcommand_metavar="",
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def providers_command(name: str | None, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """List the providers of the catalogue, or tell all of one.

    About one: the lines to paste, its endpoints, rotation and lifetimes with their source, what
    to click at the provider, and its traps. Nothing is asked of the network.
    """
    chosen = all_providers() if name is None else (provider_called(name, "NAME"),)
    if as_json:
        shown = {provider.name: _as_json(provider) for provider in chosen}
        say(json.dumps(shown if name is None else shown[name]))
        return
    say("\n".join(_list(chosen) if name is None else _everything(chosen[0])))


def provider_called(name: str, hint: str) -> Provider:
    """The provider NAME of the catalogue.

    Args:
        hint: what stands in the usage for NAME.

    Raises:
        click.BadParameter: there is none; says which is meant.
    """
    provider = find_provider(name)
    if provider is None:
        mend = suggestion(name.lower(), provider_names()) or ": `refresher providers` lists it"
        raise click.BadParameter(f"{name} is not in the catalogue{mend}", param_hint=hint)
    return provider


def _list(providers: tuple[Provider, ...]) -> Iterator[str]:
    yield _row("NAME", "PROVIDER", "ROTATION", "YOU FILL IN")
    for provider in providers:
        told = "varies" if provider.facts.rotation_varies else "-"
        rotation = str(provider.facts.rotation or told)
        wanted = ", ".join(keys_to_fill_in(provider)) or "-"
        missing = f"not yet: {', '.join(provider.needs)}" if provider.needs else wanted
        yield _row(provider.name, provider.title, rotation, missing)
    yield ""
    yield "refresher providers NAME tells everything about one."


def _row(*cells: str) -> str:
    fitted = [_cut(cell, width).ljust(width) for cell, width in zip(cells, COLUMNS, strict=False)]
    rest = WIDTH - sum(COLUMNS) - 2 * len(COLUMNS)
    return "  ".join([*fitted, _cut(cells[-1], rest)]).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _everything(provider: Provider) -> Iterator[str]:
    yield f"{provider.title} ({provider.name})"
    yield provider.documentation
    if provider.needs:
        yield ""
        wanted = "; ".join(f"{need}, {NEEDS[need]}" for need in provider.needs)
        yield from _wrapped(f"Does not work yet. It wants: {wanted}.", "")
    yield from _headed("Paste into the settings", settings_lines(provider), wrap=False)
    optional = [(key, each) for key, each in provider.variables.items() if each.default]
    yield from _headed(
        "What may be set, too",
        (f'{key}: {each.meaning}, by default "{each.default}"' for key, each in optional),
    )
    yield from _headed("At the provider", [provider.console])
    yield from _headed("Endpoints", _facts(provider, dict.fromkeys(ENDPOINTS)), wrap=False)
    yield from _headed("Tokens", _facts(provider, TOKENS), wrap=False)
    other = [key for key in ClientKeys.model_fields if key not in ENDPOINTS]
    yield from _headed("Set for you", _facts(provider, dict.fromkeys(other)), wrap=False)
    yield from _headed("Traps", (f"- {note}" for note in provider.notes))
    yield from _headed("Sources", _sources(provider), wrap=False)


def _headed(heading: str, lines: Any, *, wrap: bool = True) -> Iterator[str]:
    found = list(lines)
    if not found:
        return
    yield ""
    yield f"{heading}:"
    for line in found:
        yield from _wrapped(line, "  ") if wrap else [f"  {line}"]


def _wrapped(text: str, indent: str) -> Iterator[str]:
    hanging = indent + ("  " if text.startswith("- ") else "")
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_long_words=False
    )


def _facts(provider: Provider, names: Mapping[str, str | None]) -> Iterator[str]:
    """A line for each of NAMES that PROVIDER states: what it is called, what it is, who says so."""
    for key, name in names.items():
        if key not in provider.statements:
            continue
        called, value = name or key, _in_words(provider, key)
        source = provider.source_of(key)
        said = f"[{provider.sources.index(source) + 1}]" if source else "[not verified]"
        first, *more = textwrap.wrap(
            f"{value} {said}", WIDTH - 26, break_long_words=False, break_on_hyphens=False
        )
        yield f"{called:<23} {first}"
        yield from (f"{'':<23} {line}" for line in more)


def _in_words(provider: Provider, key: str) -> str:
    value = provider.statements[key]
    if key == "rotation":
        grace = f" {span(value.grace)}" if value.grace else ""
        return f"{value}: {ROTATIONS[value.profile.value]}{grace}"
    if key == "quotas":
        return ", ".join(f"{q.requests} in {span(q.within)} for a {q.per}" for q in value)
    if key == "live_refresh_tokens":
        return f"{value.most or 'a limited number'} for each {value.per}"
    if value == NEVER:
        return "no end"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {each}" for name, each in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return span(value) if isinstance(value, float) else str(value)


def span(seconds: float) -> str:
    """SECONDS in the largest unit that holds them whole: ``30 min``, ``60 d``."""
    unit, length = next((u, size) for u, size in UNITS if seconds % size == 0 or u == "s")
    return f"{seconds / length:g} {unit}"


def _sources(provider: Provider) -> Iterator[str]:
    for number, source in enumerate(provider.sources, start=1):
        whose = "others, " if source.secondary else ""
        yield f"[{number}] {source.url}"
        yield f"    {whose}{'measured' if source.measured else 'read'} {source.read}"


def _as_json(provider: Provider) -> dict[str, Any]:
    stated = provider.model_dump(mode="json", exclude_none=True)
    verified = {key: provider.source_of(key) is not None for key in provider.statements}
    return {**stated, "verified": verified, "lines": settings_lines(provider)}


COMMANDS = (providers_command,)

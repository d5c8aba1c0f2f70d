"""Groups of commands that know their commands by name, and import one when it is run.

What most commands need to import takes longer than all that they do, and `--help` needs none of it.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Listed(NamedTuple):
    """A command as `--help` lists it."""

    module: str
    """Of ``refresher.cli``: the one whose ``COMMANDS`` has it."""
    words: str
    """The first sentence of its own help; a test holds them equal."""


class ListedCommands(click.Group):
    """Shows its commands in sections; imports no module but that of the command it looks for.

    Args:
        sections: what `--help` shows: every command in one of them.
    """

    def __init__(
        self, *arguments: Any, sections: Mapping[str, Mapping[str, Listed]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        for section in self.sections.values():
            if listed := section.get(cmd_name):
                module = import_module(f"refresher.cli.{listed.module}")
                found: Iterable[click.Command] = module.COMMANDS
                return next(command for command in found if command.name == cmd_name)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error  # what click makes of it itself, with an empty line

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), listed.words) for name, listed in section.items()]
                )

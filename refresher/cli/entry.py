"""The command line: the group of commands, and how an error becomes an exit code."""

import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from importlib import import_module
from pathlib import Path

import click

from refresher import __version__
from refresher.cli.beginning import end_in_order_when_told
from refresher.cli.saying import say, speak_any_encoding
from refresher.errors import ParameterRefused, RefresherError, SettingsError
from refresher.ops.control_client import ControlError


class Exit(IntEnum):
    """Every exit code."""

    DONE = 0
    """It is done."""
    FAILED = 1
    """The work failed; stderr says why."""
    USAGE = 2
    """The command was typed wrongly."""
    NEEDS_PERSON = 3
    """A grant needs a human: its refresh token is gone or was never there."""
    CONFIGURATION = 78
    """The configuration cannot be used (EX_CONFIG of sysexits.h)."""


EXIT_CODES = """\b
Exit codes:
  0   done
  1   the work failed; the message on stderr says why
  2   the command was typed wrongly
  3   a grant needs a human
  78  the configuration cannot be used; `refresher check` lists every problem"""


SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Start": {
        "demo": "demo",
        "init": "setup",
        "check": "setup",
        "providers": "setup",
        "sandbox": "demo",
    },
    "Run": {"run": "daemon", "health": "daemon"},
    "Look": {"status": "grants"},
    "Accounts": {
        "login": "grants",
        "import": "grants",
        "show": "grants",
        "set-token": "grants",
        "refresh": "grants",
        "revoke": "grants",
        "remove": "grants",
    },
    "Keep": {"vault": "vault"},
}
"""What `--help` shows: every command in one section, with the module that holds it."""

RUN = "run"
"""The command that receives the signals itself."""


class Commands(click.Group):
    """Shows its commands in sections; imports no module but that of the command it looks for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        for section in SECTIONS.values():
            if module := section.get(cmd_name):
                found: Iterable[click.Command] = import_module(f"refresher.cli.{module}").COMMANDS
                return next(command for command in found if command.name == cmd_name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, section in SECTIONS.items():
            rows = []
            for name in section:
                command = self.get_command(ctx, name)
                assert command is not None
                limit = formatter.width - width - BESIDE
                rows.append((name.ljust(width), command.get_short_help_str(limit)))
            with formatter.section(title):
                formatter.write_dl(rows)


BESIDE = 6
"""Columns of a line of the list beside name and words: what is left blank."""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="refresher")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="REFRESHER_CONFIG",
    help="The settings file. Default: ./refresher.toml, else /etc/refresher/refresher.toml.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Keep OAuth 2.0 tokens fresh and publish them to Redis.

    A daemon (`refresher run`) owns refresh tokens and client secrets. Consumers in any
    language read the current access token of a grant from one Redis key.

    \b
    Try it:          refresher demo
    Set it up:       refresher init, edit refresher.toml, refresher check
    First tokens:    refresher login GRANT
    Run it:          refresher run
    Look:            refresher status, refresher show GRANT
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    context.obj = config
    if context.invoked_subcommand != RUN:
        end_in_order_when_told()


def run() -> None:
    """Run the command line and exit; an expected error is one message, never a traceback."""
    speak_any_encoding()
    try:
        code = cli(standalone_mode=False)  # what a command gave to context.exit, else None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("stopped", err=True)
        sys.exit(Exit.FAILED)
    except BaseExceptionGroup as group:
        sys.exit(_report_group(group))
    except RefresherError as error:
        sys.exit(report(error))
    sys.exit(code)


def report(error: RefresherError) -> Exit:
    """Print what ERROR says; give the code to exit with."""
    if isinstance(error, SettingsError):
        for problem in error.problems:
            say(f"problem: {problem}", err=True)
        return Exit.CONFIGURATION
    say(f"refresher: {error}", err=True)
    configuration = {"VaultKeyError", "VaultTooNew"}
    kind = error.kind if isinstance(error, ControlError) else type(error).__name__
    if kind == ParameterRefused.__name__:
        return Exit.USAGE
    return Exit.CONFIGURATION if kind in configuration else Exit.FAILED


def _report_group(group: BaseExceptionGroup[BaseException]) -> Exit:
    """The expected error inside GROUP, however deep; anything else is a bug and is raised."""
    expected, unexpected = group.split(RefresherError)
    if unexpected is not None or expected is None:
        raise group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, RefresherError)
    return report(error)

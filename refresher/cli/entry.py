"""The command line: the group of commands, and how an error becomes an exit code."""

import sys
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import click

from refresher import __version__
from refresher.cli.beginning import (
    end_in_order_when_told,
    end_undisturbed,
    tell_of_nothing_half_made,
)
from refresher.cli.listing import Listed, ListedCommands
from refresher.cli.saying import say, speak_any_encoding
from refresher.errors import ParameterRefused, RefresherError, SettingsError, kind_of


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
    STOPPED = 130
    """It was told to stop before it was done: Ctrl-C, SIGTERM or SIGHUP."""


EXIT_CODES = """\b
Exit codes:
  0    done
  1    the work failed; the message on stderr says why
  2    the command was typed wrongly
  3    a grant needs a human
  78   the configuration cannot be used; `refresher check` lists every problem
  130  it was stopped: Ctrl-C, SIGTERM or SIGHUP"""


SECTIONS: Mapping[str, Mapping[str, Listed]] = {
    "Start": {
        "demo": Listed("demo", "Watch grants being kept fresh, in a world of their own."),
        "init": Listed("setup", "Write a commented refresher.toml and a vault key."),
        "check": Listed("setup", "Check settings, secrets and vault key; print every problem."),
        "discover": Listed("servers", "Ask the server of CLIENT what it is, and show it."),
        "register": Listed("servers", "Have the server of CLIENT make it (RFC 7591)."),
        "notify": Listed(
            "notifying", "Send a test message to each [[notify]], and tell what came of it."
        ),
        "providers": Listed(
            "providers", "List the providers of the catalogue, or tell all of one."
        ),
        "sandbox": Listed("sandbox", "Run an authorization server to practise with."),
    },
    "Run": {
        "run": Listed("daemon", "Run the daemon until SIGTERM."),
        "health": Listed("daemon", "Ask the running daemon how it is; exits 0 or 1."),
    },
    "Look": {
        "status": Listed(
            "status.command", "Show how grants are and what mends them, or all of GRANT."
        ),
        "audit": Listed("audit", "Show who changed what, the newest first: all, or of GRANT."),
    },
    "Accounts": {
        "login": Listed("logins", "Authorize GRANT in a browser and store its tokens."),
        "import": Listed(
            "importing", "Add grants from FILE (- for stdin), one JSON object a line."
        ),
        "export": Listed("exporting", "Print grants with their refresh tokens, for `import`."),
        "token": Listed("reading", "Print the access token of GRANT that consumers read now."),
        "set-token": Listed("grants", "Replace the static token of GRANT with the one on stdin."),
        "refresh": Listed("refreshing", "Ask for a refresh of GRANT now."),
        "pause": Listed("pausing", "Send nothing for GRANT until `resume`, or for a while."),
        "resume": Listed("pausing", "End the pause of GRANT, whatever its reason."),
        "revoke": Listed("grants", "Revoke GRANT at its server, and forget its tokens here."),
        "remove": Listed("grants", "Forget GRANT and its tokens, here and in Redis."),
    },
    "Keep": {
        "kept": Listed("kept", "See, adopt or drop the answers of servers that found no grant."),
        "vault": Listed("vault", "Copy the vault, put a copy in its place, or change its key."),
    },
}
"""What `--help` shows: every command in one section."""

RUN = "run"
"""The command that receives the signals itself."""


@click.group(
    cls=ListedCommands,
    sections=SECTIONS,
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
    Look:            refresher status, refresher token GRANT
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    context.obj = config
    if context.invoked_subcommand != RUN:
        end_in_order_when_told()


def run() -> None:
    """Run the command line and exit; an expected error is one message, never a traceback."""
    speak_any_encoding()
    try:
        try:
            code = cli(standalone_mode=False)  # what a command gave to context.exit, else None
        finally:
            end_undisturbed()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        end_undisturbed()
        tell_of_nothing_half_made()
        sys.exit(_report_stop(error))
    except BaseExceptionGroup as group:
        sys.exit(_report_group(group))
    except RefresherError as error:
        sys.exit(report(error))
    sys.exit(code)


def _report_stop(error: BaseException) -> Exit:
    """Say that nothing more is done; a no as the answer to a question is no signal."""
    said = error.__context__ or error
    # What was asked, without an answer, has not ended its line.
    is_within_question = error.__suppress_context__ and error.__cause__ is None
    say("\nstopped" if is_within_question else "stopped", err=True)
    return Exit.STOPPED if isinstance(said, KeyboardInterrupt) else Exit.FAILED


def report(error: RefresherError) -> Exit:
    """Print what ERROR says; give the code to exit with."""
    if isinstance(error, SettingsError):
        for problem in error.problems:
            say(f"problem: {problem}", err=True)
        return Exit.CONFIGURATION
    say(f"refresher: {error}", err=True)
    configuration = {"VaultKeyError", "VaultTooNew"}
    kind = kind_of(error)
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

"""How a command speaks: whatever others wrote is shown as plain text."""

import shutil
import sys
import textwrap

import click

from refresher.text import plain


def say(text: str, *, err: bool = False) -> None:
    """Print TEXT: its lines stay lines, and no terminal obeys what is in them."""
    click.echo("\n".join(map(plain, text.split("\n"))), err=err)


def ask_whether(question: str) -> None:
    """Go on only if a person says yes to QUESTION, whose words no terminal breaks.

    Raises:
        click.Abort: the answer is no, or none.
    """
    width = shutil.get_terminal_size().columns - len(" [y/N]: ")
    lines = textwrap.wrap(
        plain(question), width, break_long_words=False, break_on_hyphens=False
    )  # a path stays whole
    click.confirm("\n".join(lines), abort=True, err=True)


def speak_any_encoding() -> None:
    """Let a terminal that has not every letter show escapes, where Python would give up."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

"""How a command speaks: whatever others wrote is shown as plain text."""

import sys

import click

from refresher.text import plain


def say(text: str, *, err: bool = False) -> None:
    """Print TEXT: its lines stay lines, and no terminal obeys what is in them."""
    click.echo("\n".join(map(plain, text.split("\n"))), err=err)


def speak_any_encoding() -> None:
    """Let a terminal that has not every letter show escapes, where Python would give up."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

"""The group ``refresher vault``: what is done to the vault as a whole."""

import click

from refresher.cli.restoring import restore


@click.group()
def vault() -> None:
    """Look after the vault itself: put a backup in its place."""


vault.add_command(restore)

COMMANDS = (vault,)

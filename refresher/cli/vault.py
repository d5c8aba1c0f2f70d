"""``refresher vault``: what concerns the vault as a whole, its copies and its key."""

import click

from refresher.cli.listing import Listed, ListedCommands

PARTS = {
    "backup": Listed("backup", "Copy the vault to FILE, whether or not a daemon is running."),
    "copy": Listed("copying", "Move the vault from its file into PostgreSQL; compare each row."),
    "key-status": Listed("keys", "Count what each line of the key file seals; tell which can go."),
    "restore": Listed(
        "restoring", "Put the backup FILE in the vault's place; FILE stays as it is."
    ),
    "rotate-key": Listed("keys", "Bring in a new vault key, and seal everything anew under it."),
}


@click.group(cls=ListedCommands, sections={"Commands": PARTS})
def vault() -> None:
    """Copy the vault, put a copy in its place, or change its key."""


COMMANDS = (vault,)

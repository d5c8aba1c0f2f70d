"""What a person types. Nothing else knows about processes, terminals and exit codes."""

from refresher.cli.entry import main

__all__ = ["main"]

"""What a person types. Nothing else knows about processes, terminals and exit codes."""

from refresher.cli.beginning import (
    fill_standard_streams,
    hold_signals_back,
    show_no_interruption,
)


def main() -> None:
    """Run the command line and exit."""
    hold_signals_back()
    show_no_interruption()
    fill_standard_streams()
    from refresher.cli.entry import run  # noqa: PLC0415  it takes most of the time of a start

    run()


__all__ = ["main"]

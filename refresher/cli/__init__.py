"""What a person types. Nothing else knows about processes, terminals and exit codes."""

from refresher.cli.beginning import fill_standard_streams, hold_signals_back


def main() -> None:
    """Run the command line and exit."""
    fill_standard_streams()
    hold_signals_back()
    from refresher.cli.entry import run  # noqa: PLC0415  it takes most of the time of a start

    run()


__all__ = ["main"]

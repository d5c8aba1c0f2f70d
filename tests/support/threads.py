"""A thread that is none, for what is judged by its result and not by who waits."""

from collections.abc import Callable

from refresher.vault.threads import Done


class Inline:
    """Runs each function at once, where it was given."""

    def submit(self, function: Callable[[], object], done: Done) -> None:
        error: BaseException | None = None
        try:
            function()
        except Exception as raised:  # noqa: BLE001  told to whoever asked
            error = raised
        done(error)

    def end(self, within: float) -> bool:
        return within >= 0

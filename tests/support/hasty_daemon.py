"""The daemon in which doubt passes quickly: ``... hasty_daemon CONFIG TIMES``.

Half an hour of refusals is more than a test waits for. The rules are the real ones; only
the time that they count since the first refusal runs TIMES as fast.
"""

import sys
from pathlib import Path

import anyio

from refresher import logs
from refresher.app.standby import run_daemon
from refresher.domain import schedule
from refresher.settings.loading import load


def hasten_doubt(times: float) -> None:
    """Let the rules of doubt believe that TIMES as much time has passed."""
    next_question, is_final_refusal = schedule.next_question, schedule.is_final_refusal

    def sooner(first_refused_at: float, refusals: int, now: float, draw: float) -> float:
        believed = now - (now - first_refused_at) * times
        return now + (next_question(believed, refusals, now, draw) - now) / times

    def finally_refused(
        first_refused_at: float, now: float, witness_at: float | None, doubt_for: float
    ) -> bool:
        believed = now - (now - first_refused_at) * times
        ago = None if witness_at is None else now - (now - witness_at) * times
        return is_final_refusal(believed, now, ago, doubt_for)

    schedule.next_question = sooner
    schedule.is_final_refusal = finally_refused


def main() -> None:
    """Run the daemon."""
    config, times = Path(sys.argv[1]), float(sys.argv[2])
    logs.configure(level="debug", json_lines=True)
    hasten_doubt(times)

    async def run() -> None:
        await run_daemon(load(config).settings, lambda: load(config).settings)

    anyio.run(run)


if __name__ == "__main__":
    main()

"""What ``/metrics`` reads at each scrape, brought together from the rooms that know it.

Imported only if ``http.listen`` is set: it brings prometheus_client with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from refresher.app.parts import Core
from refresher.clock import Clock
from refresher.engine.admission import Admission
from refresher.engine.scheduler import Scheduler
from refresher.logs import subscribed
from refresher.ops.metrics import Metrics, ReadState, Standing, State
from refresher.publication.mirror.life import Mirror
from refresher.vault.figures import Counting


class Measuring:
    """The metrics of one daemon, and where it gets them."""

    def __init__(self, clock: Clock) -> None:
        self.metrics = Metrics()
        self._clock = clock

    @contextmanager
    def begun(
        self, core: Core, admission: Admission, scheduler: Scheduler, mirror: Mirror
    ) -> Iterator[ReadState]:
        """Count what happens until the block ends; gives what reads the rest."""
        counting = Counting(core.vault, self._clock)

        async def read() -> State:
            counted = await counting.latest()
            return State(
                now=self._clock.now(),
                clients={
                    name: Standing(admission.is_suspended(client), admission.is_rejected(client))
                    for name, client in core.clients.items()
                },
                in_flight=scheduler.in_flight,
                is_writable=not core.vault.outage.is_on and not core.vault.files.vanished,
                is_connected=mirror.is_connected,
                figures=None if counted is None else counted.figures,
                read_age=0.0 if counted is None else self._clock.monotonic() - counted.at,
            )

        core.durability.on_written = self.metrics.committed
        try:
            with subscribed(self.metrics.hear):
                yield read
        finally:
            counting.close()

"""What is counted and measured for ``/metrics``, as cheap as a number that grows.

The counters of prometheus_client take a lock and look their children up at every event, of which
a refresh has ten. These are told to it when somebody asks, as everything else is.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from refresher.ops.metric_catalogue import Metric

Labels = tuple[str, ...]


class Tally:
    """Counts by label.

    Args:
        beginning: labels that are told before anything was counted: a counter that begins at its
            first event shows no increase by it.
    """

    def __init__(self, metric: Metric, beginning: Sequence[Labels] = ()) -> None:
        self.metric = metric
        self.counts = dict.fromkeys(beginning, 0)

    def add(self, labels: Labels = (), number: int = 1) -> None:
        """Count NUMBER more of LABELS."""
        self.counts[labels] = self.counts.get(labels, 0) + number


class Durations:
    """Durations by label, each in the first of some buckets that it fits.

    Args:
        bounds: of the buckets, in seconds, in order; what is longer fits the last one.
    """

    def __init__(
        self, metric: Metric, bounds: Sequence[float], beginning: Sequence[Labels] = ()
    ) -> None:
        self.metric, self._bounds = metric, bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        for labels in beginning:
            self._begin(labels)

    def _begin(self, labels: Labels) -> None:
        self._counts[labels], self._sums[labels] = [0] * (len(self._bounds) + 1), 0.0

    def add(self, seconds: float, labels: Labels = ()) -> None:
        """Something of LABELS took SECONDS."""
        if labels not in self._counts:
            self._begin(labels)
        self._counts[labels][bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def read(self) -> Iterator[tuple[Labels, list[tuple[str, float]], float]]:
        """Labels, how many there were up to each bound, and the sum of all so far."""
        names = [*map(str, self._bounds), "+Inf"]
        for labels, counts in list(self._counts.items()):
            yield labels, list(zip(names, accumulate(counts), strict=True)), self._sums[labels]

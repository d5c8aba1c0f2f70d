"""Everything at once, on real processes: daemon, Valkey, sandbox, consumers, a tormentor.

``python -m tests.chaos --minutes 10 [--seed S] [--json]``. The tormentor kills, restarts and
pauses the daemon, cuts the authorization server off, flushes, kills, freezes, fills and
demotes Redis, locks the vault, fills its disk, and steps the daemon's clock. A table tells
what each fault did: times injected, grants lost, double exchanges, stale and expired reads,
the longest gap and the slowest healing; any violation exits 1.
"""

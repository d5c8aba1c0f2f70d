"""Three replicas on one vault: killed, paused, cut off, and their database killed.

``python -m tests.replicas --minutes 15 --grants 2000 [--seed S]``. Real daemons on one
PostgreSQL, one Valkey and one sandbox keep grants of four rotation profiles whose tokens live
20 and 60 s. The server's own log judges. Prints one JSON line; a violation exits 1.
"""

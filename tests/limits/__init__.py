"""Three replicas at a server that counts their requests: its rate, and its quota of a day.

``python -m tests.limits [--grants 1200] [--rate 60]``. Real daemons on one PostgreSQL and one
Valkey; the sandbox's limiter judges, and its log. Exits 1 where a limit that the settings name
was exceeded, or a token could not be kept.
"""

"""The durable store: the only system of record for grants and their refresh tokens.

Secrets are sealed before they reach SQL and unsealed only into ``Secret``. Every write is
one transaction of its own meaning, and writes that wait together share one commit. What
an outcome means is decided in ``domain``; whether it still counts is the commit rule.
"""

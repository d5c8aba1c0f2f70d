"""The work: claim, send, commit, publish; and everything that keeps it turning.

``refresh.py`` is one refresh from beginning to end. The scheduler decides when, the
admission how many, recovery what a dead process left, the watch what nobody did.
"""

"""Hostile clients of every kind in one daemon, beside an honest one (guarantee G8).

``python -m tests.hostile`` runs the real daemon twice: with an honest client alone, and with
clients beside it whose servers, networks and name servers do their worst. Shown is that the
honest token is never absent, that its strict grant lives, that healthy accounts of a client
whose other accounts are refused stay fresh, and that the loop goes on turning.
"""

"""Talking to authorization servers: requests, answers, logins.

Nothing here raises for what a network or a server does: an exchange ends in an outcome.
"""

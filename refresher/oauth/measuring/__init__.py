"""Measuring a server: what it really does with refresh tokens, on grants made to be thrown away.

``experiments`` says what is asked next and ``judgement`` what the answers mean: neither
knows HTTP, and a test gives them servers and a clock of its own. ``wire`` asks a real
server, ``liveness`` whether an access token of it still lives.
"""

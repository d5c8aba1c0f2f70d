"""The Redis contract: what consumers read, hear and ask for, and nothing else.

Redis is a mirror of the vault (guarantee G4): everything here can be lost and is written
again. No refresh token, lease or schedule is ever written to it. What stands in this room
itself is the contract: names, records, how they are published and what is asked for.
Inner rooms: ``server`` speaks to Redis, ``mirror`` keeps it as the vault says.
"""

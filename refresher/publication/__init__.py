"""The Redis contract: what consumers read, hear and ask for, and nothing else.

Redis is a mirror of the vault (guarantee G4): everything here can be lost and is written
again. No refresh token, lease or schedule is ever written to it. The only room that
imports ``redis``.
"""

"""See it work: a private Valkey, the sandbox, the real daemon, and consumers that count.

It stands apart from the daemon, which it starts as a process of its own and asks over the
control socket. Nothing here prints: the command line shows what it tells.
"""

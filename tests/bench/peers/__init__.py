"""What the daemon is compared with: one program each, run by a Python that has its libraries.

Nothing of ``refresher`` is imported here.
"""

"""The composition root: settings become parts, parts become a daemon or one command.

Nothing else in the package knows all the rooms. ``standby`` is the way in for a daemon,
``without_daemon`` for a command that finds none.
"""

"""One bad night of a real daemon: what an operator would have seen of it, and what mended itself.

Twenty grants with consumers that read all the time, scraped by a Prometheus with the rules that
ship. The provider is down for ``--minutes``, then refuses everybody for five; the disk is full
for two minutes, and Redis is gone for three. Each trouble begins while the one before still has
its traces. Prints, for each, the alerts that fired, the notifications sent, the lines of the log
that ask for attention, and what ``refresher status`` said at its end; then what mended itself.

Needs root (a small file system is mounted) and Debian's ``prometheus``. Takes 40 minutes. Exits 1
if a grant was lost, a consumer was served what it must not be, an alert was missing, or something
did not mend itself.
"""

"""What ships in ``deploy/prometheus`` holds for the metrics of a real daemon.

The default tests compare names with the catalogue. ``python -m tests.prometheus`` runs a daemon
through a bad hour, lets a real Prometheus scrape it and promtool judge the alerts.
"""

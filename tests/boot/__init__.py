"""The service under a real systemd: ``python -m tests.boot``, which needs root and Debian."""

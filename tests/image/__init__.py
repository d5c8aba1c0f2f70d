"""The container image, built and run: ``python -m tests.image``, which needs root and Debian."""

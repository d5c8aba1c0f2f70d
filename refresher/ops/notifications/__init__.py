"""Telling people: events become messages, and messages are sent until they are taken."""

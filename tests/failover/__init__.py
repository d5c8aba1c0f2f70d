"""A master loses its place under the real daemon: how long until every current token is back."""

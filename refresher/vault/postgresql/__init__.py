"""The vault in PostgreSQL: how it is reached, its tables, and what its refusals mean.

Nothing outside of this room knows psycopg, which an extra of the package brings.
"""

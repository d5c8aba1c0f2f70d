"""Everything of the vault that is SQLite's: its file and folder, lock, copies and refusals.

The rest of the vault is written in SQLAlchemy's words and would run on another database.
"""

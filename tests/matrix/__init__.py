"""Every failure seen at other projects, and every fault, beside what shows that it holds here.

``python -m tests.matrix`` runs both and prints a row for each.
"""

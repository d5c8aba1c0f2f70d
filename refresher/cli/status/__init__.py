"""``refresher status``: how grants are, as a table, in whole, as a stream, or as a live view.

``asking`` gets what is to be shown, a page at a time; ``wording`` and ``single`` say in pure
functions what each grant's row, or one grant's page, reads; ``drawing`` fits rows to a width;
``watch`` redraws them in place; ``command`` is what a person types.
"""

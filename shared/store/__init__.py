"""Every write to the database, as named functions on a connection.

The functions take all items of a moment at once and return a result for each. They never
commit: ``shared.writer`` owns the transaction. Locks are always taken in the same order, so
that batches of two workers cannot deadlock: runs, then branches, then joins, each by id.
"""

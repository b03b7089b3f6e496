"""Every read of the database, as named functions on a connection."""

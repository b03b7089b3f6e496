"""The whole service on one machine, for development: Valkey, the API and workers.

``plan`` says what is to run and where, ``supervisor`` starts and stops it, ``process`` is one of
the processes, ``valkey`` the embedded server, ``places`` where things are, and ``child`` what
stands between the supervisor and each process.
"""

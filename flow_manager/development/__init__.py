"""The whole service on one machine, for development: Valkey, the API and workers.

``supervisor`` holds the processes, ``process`` one of them, ``valkey`` the embedded server and
``child`` is what stands between the supervisor and each of them.
"""

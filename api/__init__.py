"""The HTTP service: accepts runs, shows them, and says in one form what is wrong."""

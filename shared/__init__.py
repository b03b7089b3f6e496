"""What the API and the workers share: the pure core, the database and the queue."""

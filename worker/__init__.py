"""The worker: claims branches, runs their tasks, records what they came to."""

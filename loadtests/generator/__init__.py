"""The part that runs inside Locust: users, shape, workers, and what is told of a run while it lasts."""

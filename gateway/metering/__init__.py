"""What a worker meters: tokens that were passed on, and one event per request, in a log that outlives it."""

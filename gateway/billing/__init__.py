"""The meter: a process beside the gateway that ships events, settles them into sums, and tells whom it concerns."""

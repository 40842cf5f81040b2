"""Cannot be imported on any day."""

raise RuntimeError("not on a Sunday")

"""What limits and metering cost: the reservation of a request, its event, and the settling of many."""

"""A minute of bursty traffic to many models, live and simulated: how far the simulator is from what really happens."""

"""What the control loop costs: a step and a decision with hundreds of models, and a wake from gateway to order."""

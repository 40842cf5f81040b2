"""What the models are, how they run, where they run and who keeps them running."""

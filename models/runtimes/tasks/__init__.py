"""What the torch runtime serves: an endpoint for each task, and classes for the models that people bring most."""

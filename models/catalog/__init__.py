"""What is served: the service's configuration, model cards, and where a model's weights lie."""

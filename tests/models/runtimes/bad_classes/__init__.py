"""Model classes that do what they may not do."""

"""What a tenant feels of another one that asks for ten times its share."""

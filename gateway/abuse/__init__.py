"""Who is turned away before anything is done for them: blocked addresses and keys, and those that only fail."""

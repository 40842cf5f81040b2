"""The loop that packs: observe, decide, apply. One writer, its state in Redis."""

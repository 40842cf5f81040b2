"""What a run leaves: its document, the figures in it, and whether they may be believed."""

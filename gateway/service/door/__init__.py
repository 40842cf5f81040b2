"""The door of a cluster: the one port to know, by which machines join, and see that its head is there."""

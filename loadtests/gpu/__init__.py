"""What a real GPU does: the bus, waking over size, what a process leaves behind, the ledger against the driver."""

"""The launcher: one per node, forks an engine per replica from a process that has imported everything."""

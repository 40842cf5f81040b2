"""What ``roundhouse simulate`` is made of: traces, worlds, sweeps, runs, tables and the report."""

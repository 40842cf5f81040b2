"""``python -m gateway.cli``: the same as ``roundhouse``."""

from gateway.cli import main

main()

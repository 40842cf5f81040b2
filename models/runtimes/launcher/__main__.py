"""``python -m models.runtimes.launcher``."""

from models.runtimes.launcher.server import main

if __name__ == "__main__":
    main()

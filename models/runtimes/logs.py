"""Plain log lines on standard error, which no library can silence by configuring the root logger."""

from __future__ import annotations

import logging
import sys

NAME = "roundhouse"


def log_to_stderr(line_format: str) -> None:
    """Send what the loggers below NAME say to standard error, from INFO on. May be called again, after a fork."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(line_format))
    logger = logging.getLogger(NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False

"""What a load cost its callers, as a page, a table and a comment: ``python -m loadtests report RUN.json``.

Passes of one plan, direct to an engine and through Roundhouse in turns (``passes``), are read (``sample``), taken apart
by Server-Timing (``parts``), held side by side (``comparison``), and shown (``page``, ``markdown``, ``sheet``).
"""

"""The brain: pure functions that decide where models live in GPU memory. No I/O, no clock, no environment."""

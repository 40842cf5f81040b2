"""What engines do with a CUDA device: host memory that the bus can read, copies, sleeping, process checkpoints.

Importing any of it starts no CUDA and needs no GPU; the adapters that talk to the device import torch and the driver
when they are made. ``models/nvml.py`` asks the driver about devices; this package uses them.
"""

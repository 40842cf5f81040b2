"""Batches: files of requests that are worked off while there is room, in the order of OpenAI's Batch API."""

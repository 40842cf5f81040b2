"""Whether bytes have changed, computed where they lie: some milliseconds for a whole model at a device's own bandwidth.

Weights are taken to be immutable, and copied back to the host no second time. This is what makes that safe: a buffer
that a model writes after all (statistics, an adapter that was loaded) is noticed and copied again.
"""

from __future__ import annotations

import torch

_WORD_BYTES = 8
_CHUNK = 1 << 20  # words; a bound on what is allocated on the device for it
# Of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as signed numbers.
_STEP, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def fingerprint(flat: torch.Tensor) -> torch.Tensor:
    """A 64-bit number of flat uint8 memory, computed on its device; not meant to hold against adversaries.

    The sum of its words, each times a pseudorandom number of its place; the last bytes count as words of their own.
    """
    if flat.storage_offset() % _WORD_BYTES:
        flat = flat.clone()
    words = flat[: flat.numel() // _WORD_BYTES * _WORD_BYTES].view(torch.int64)
    rest = flat[words.numel() * _WORD_BYTES :].to(torch.int64)
    places = _random(0, max(1, min(words.numel(), _CHUNK)), flat.device)
    chunks = (words[at : at + _CHUNK] for at in range(0, words.numel(), _CHUNK))
    sums = [(chunk * places[: chunk.numel()]).sum() for chunk in chunks]
    sums.append((rest * _random(-rest.numel(), 0, flat.device)).sum())
    return (torch.stack(sums) * _random(_CHUNK, _CHUNK + len(sums), flat.device)).sum()


def _random(begin: int, end: int, device: torch.device) -> torch.Tensor:
    """One odd number for each place from ``begin`` to ``end``, the same on every device."""
    mixed = torch.arange(begin, end, dtype=torch.int64, device=device) * _STEP
    mixed = (mixed ^ (mixed >> 30)) * _FIRST
    mixed = (mixed ^ (mixed >> 27)) * _SECOND
    return (mixed ^ (mixed >> 31)) | 1


def fingerprints(parts: list[torch.Tensor]) -> list[int]:
    """Of each part, with one wait for all of them."""
    return [int(value) for value in torch.stack([fingerprint(part) for part in parts]).tolist()] if parts else []

"""A model class of any size for the torch runtime: a stack of square layers, its size that of its folder."""

from __future__ import annotations

import json
import re

import torch

from loadtests.gpu.subjects import stack_in


class Wide:
    """Ten lines and an answer that is equal bit by bit as long as the weights are."""

    task = "predict"

    def load(self, device, weights):
        width = next(iter(weights.values())).shape[0]
        self.device = device
        self.net = weights.build(
            lambda: torch.nn.Sequential(
                *(torch.nn.Linear(width, width, bias=False, dtype=torch.bfloat16) for _ in range(len(weights)))
            ),
        )

    def predict(self, batch):
        width = self.net[0].in_features
        made = []
        for number in batch:
            given = torch.linspace(-1, 1 + number, width, device=self.device, dtype=torch.bfloat16)[None]
            for layer in self.net:
                given = layer(given)
                given = given / given.abs().amax()
            made.append([float(value) for value in given[0, :8]])
        return made


def wide_folder(folder, size_bytes):
    """Its weights are named as ``torch.nn.Sequential`` names them."""
    from safetensors.torch import load_file, save_file

    path = stack_in(folder, size_bytes)
    own = {re.sub(r"^0+(?=\d)", "", name): tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(own, path)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Wide"]}))
    return folder

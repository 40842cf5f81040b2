"""Static packing: how few GPUs hold a set of models that all serve at once, and which model goes where.

``pack(items, gpu, gpus_per_node)`` answers with the fewest nodes it finds and a lower bound, ``fit(items, nodes)``
whether everything goes on given nodes. ``lines`` packs by one size, ``groups`` by memory and compute, with
tensor-parallel groups and models that keep apart.
"""

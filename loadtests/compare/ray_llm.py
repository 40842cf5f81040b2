"""``python -m loadtests.compare.ray_llm``: Ray Serve LLM with one model and one replica, until SIGTERM.

It runs in an environment of its own, which has what Ray asks for besides Ray and vLLM (``loadtests.gateway.install``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any


def config(weights: str, model: str, engine_args: dict[str, Any], gpu: bool) -> dict[str, Any]:
    """Fields of Ray's LLMConfig."""
    found: dict[str, Any] = {
        "model_loading_config": {"model_id": model, "model_source": weights},
        "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        "engine_kwargs": engine_args,
        # Its default collects tokens for 50 ms: what is compared is when they can be had.
        "experimental_configs": {"stream_batching_interval_ms": 0},
        "log_engine_metrics": False,
    }
    return found if gpu else {**found, "placement_group_config": {"bundles": [{"CPU": 1}]}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.compare.ray_llm")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine-args", type=json.loads, required=True)
    options = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    gpu = Path("/proc/driver/nvidia/gpus").is_dir()
    ray.init(
        num_cpus=max(4, os.cpu_count() or 4),
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(options.scratch),
        logging_level=logging.ERROR,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        chosen = LLMConfig(**config(options.weights, options.model, options.engine_args, gpu))
        serve.run(build_openai_app({"llm_configs": [chosen]}), blocking=False)
        ended.wait()
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


if __name__ == "__main__":
    main()

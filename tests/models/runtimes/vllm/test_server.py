"""What is read from the log of a vLLM server that did not start."""

from __future__ import annotations

import pytest

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.plain import PUBLIC, _is_public
from models.runtimes.vllm.server import ServerFailed, VllmServer, first_reason, server_arguments

CORE = """\
(EngineCore pid=29946) INFO 11-22 02:13:50 [gpu_worker.py:195] loading
(EngineCore pid=29946) ERROR 11-22 02:14:09 [core.py:1040] EngineCore failed to start.
(EngineCore pid=29946) ERROR 11-22 02:14:09 [core.py:1040] Traceback (most recent call last):
(EngineCore pid=29946) ERROR 11-22 02:14:09 [core.py:1040]   File "/x/vllm/v1/core/kv_cache_utils.py", line 9, in check
(EngineCore pid=29946) ERROR 11-22 02:14:09 [core.py:1040]     raise ValueError(
(EngineCore pid=29946) ERROR 11-22 02:14:09 [core.py:1040] ValueError: No available memory for the cache blocks.
(APIServer pid=29787) Traceback (most recent call last):
(APIServer pid=29787) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
ARGUMENTS = """\
usage: api_server.py [-h] [--headless]
api_server.py: error: argument --dtype: invalid choice: 'int3' (choose from auto, half)
"""
PYDANTIC = """\
Traceback (most recent call last):
pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig
max_num_seqs
  Input should be greater than or equal to 1 [type=greater_than_equal, input_value=-1, input_type=int]
    For further information visit https://errors.pydantic.dev/2.12/v/greater_than_equal
"""
MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (CORE, "No available memory for the cache blocks."),
        (ARGUMENTS, "argument --dtype: invalid choice: 'int3' (choose from auto, half)"),
        (MEMORY, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("INFO starting\nKilled\n", None),
        ("", None),
    ],
)
def test_the_cause_is_what_was_raised_first(written, reason):
    assert first_reason(written) == reason


def test_a_validation_error_names_the_field_and_what_is_wrong_with_it():
    reason = first_reason(PYDANTIC)
    assert reason is not None
    assert reason.startswith("1 validation error for SchedulerConfig max_num_seqs")
    assert "greater than or equal to 1" in reason
    assert "https" not in reason


def test_a_failure_says_how_the_server_ended():
    failure = ServerFailed("Killed\n", "was killed by signal 9 (Killed)")
    assert str(failure) == "vLLM's server was killed by signal 9 (Killed)"
    assert failure.reason is None


def test_the_servers_module_is_found_without_importing_it():
    assert server_arguments()[0] == "-m"
    assert server_arguments()[1].startswith("vllm.entrypoints.")


def test_a_socket_path_that_is_too_long_is_said_so():
    with pytest.raises(EngineError, match="longer than 107 bytes"):
        VllmServer("/tmp/" + "x" * 120)


@pytest.mark.parametrize("path", ["/sleep", "/collective_rpc", "/update_weights", "/reset_prefix_cache", "/pause", "/"])
def test_what_the_developer_mode_opens_is_not_public(path):
    assert not _is_public(path)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/metrics", "/tokenize", "/v2/rerank"])
def test_what_clients_use_is_public(path):
    assert _is_public(path)


def test_public_are_first_parts_of_paths():
    assert not any("/" in part for part in PUBLIC)

"""What every test on a GPU needs. Without one they fail with the reason: they are only run to be run."""

from __future__ import annotations

import pytest

from models.nvml import NvmlUnavailable, RealGpu, keep_open, probe


@pytest.fixture(scope="session")
def gpu() -> RealGpu:
    try:
        keep_open()
        return probe()[0]
    except NvmlUnavailable as reason:
        pytest.fail(f"there is no GPU to test on: {reason}")


@pytest.fixture
def calls(gpu):
    from models.cuda.torch_calls import TorchCalls

    return TorchCalls()


@pytest.fixture
def pool(calls):
    from models.cuda.pinned import PinnedPool

    made = PinnedPool(calls)
    yield made
    made.close()

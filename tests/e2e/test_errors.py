"""What cannot be served is said in one clear sentence, and everything else goes on."""

from __future__ import annotations

import pytest

from models.demo.catalog import SIMULATED_GPU_MIB
from tests.e2e.service import Service, rows


def _error(service: Service, model: str, status: int) -> dict[str, object]:
    answer = service.chat(model)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    for leak in ("Traceback", "site-packages", "/tmp/", "Error("):
        assert leak not in error["message"], error["message"]
    return dict(error)


def test_an_unknown_model_is_not_found(service: Service) -> None:
    error = _error(service, "no-such-model", 404)
    assert error["code"] == "model_not_found"
    assert "no-such-model" in str(error["message"])


def test_a_model_that_can_never_fit_names_what_it_needs_and_what_there_is(service: Service) -> None:
    error = _error(service, "never-fits", 503)
    assert error["code"] == "insufficient_gpu_memory"
    assert "101" in str(error["message"]), "its 100 GiB of weights and more"
    assert str(SIMULATED_GPU_MIB) in str(error["message"]), "what the largest GPU has"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("truncated", "model.safetensors"),
        ("missing", "the folder does not exist"),
        ("wrong-argument", "max_modle_len"),
        ("lacks-tensors", "down_proj"),
    ],
)
def test_a_broken_model_tells_the_caller_and_the_admin_why(service: Service, model: str, said: str) -> None:
    error = _error(service, model, 503)
    assert error["code"] == "model_start_failed"
    assert said in str(error["message"])
    shown = {entry["model_id"]: entry for entry in rows(service.admin("models"))}
    assert said in shown[model]["failure"]["message"]
    assert any(said in d["reason"] for d in service.decisions(model) if d["action"] == "failed")
    assert service.replicas(model) == []
    assert service.chat("tiny-llama").status_code == 200, "other models go on serving"


def test_the_gpus_are_called_simulated_wherever_they_are_shown(service: Service) -> None:
    assert all(gpu["simulated"] for gpu in rows(service.admin("gpus")))
    assert "simulated" in service.run("gpus").stdout
    assert "simulated" in service.run("status").stdout

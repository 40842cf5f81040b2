"""The threads of each step of an engine on the CPU: as many as it is worth, and as other engines leave."""

from __future__ import annotations

from typing import Any

from models.runtimes.cores.crew import Crew, own_crew
from models.runtimes.cores.policy import wanted


def share_cores(core: Any, weights_bytes: int) -> Crew | None:
    """Have the EngineCore take its share of the cores for each step. None where the operator has set a number."""
    crew = own_crew()
    if crew is None:
        return None
    execute = core.model_executor.execute_model

    def execute_model(scheduler_output: Any, *arguments: Any, **named: Any) -> Any:
        with crew.step(wanted(weights_bytes, scheduler_output.total_num_scheduled_tokens)):
            return execute(scheduler_output, *arguments, **named)

    core.model_executor.execute_model = execute_model
    return crew

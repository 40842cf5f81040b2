"""What a worker leaves out of its libraries, and that they work without."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
from gateway import lean
with lean.without(*lean.UNUSED, lean.COLOURS):
    lean.load_fastapi()
    import redis.asyncio, structlog, fastapi
    early = fastapi.openapi.models.OpenAPI.__pydantic_complete__
    from fastapi import FastAPI
    app = FastAPI()
    @app.get("/x")
    def x(number: int = 1) -> int: return number
left_out = sorted({lean.COLOURS, *lean.UNUSED} & set(sys.modules))
import rich, pydantic
class Later(pydantic.BaseModel):
    a: int
print(json.dumps([left_out, structlog.dev.rich is None, Later.__pydantic_complete__, sorted(app.openapi()["paths"]),
                  early, fastapi.openapi.models.OpenAPI.__pydantic_complete__]))
"""


def test_libraries_go_on_without_and_others_find_everything_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    left_out, plain, complete, paths, early, in_the_end = json.loads(done.stdout)
    assert left_out == []
    assert plain, "structlog did without rich"
    assert complete, "classes defined later are compiled at once, as usual"
    assert paths == ["/x"]
    assert (early, in_the_end) == (False, True), "OpenAPI's classes are compiled when a document is made"


def test_what_is_loaded_already_stays() -> None:
    from gateway import lean

    with lean.without("json"):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json

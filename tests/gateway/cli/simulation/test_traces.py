"""Requests out of files and out of nothing, and what is said of files that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from gateway.cli.errors import AskedWrongly
from gateway.cli.simulation.traces import Source, make_up, read_file
from models.control.recording import Arrivals, Header, encode_line
from tests.gateway.test_http_packing import step

PLAIN = "time,model,service_s\n0,a,1\n5,b,2\n7.5,a,1\n"


def written(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(path: Path, **given: object) -> Source:
    defaults = {"seed": 0, "rate_per_s": None, "single_model": None, "known": None}
    return read_file(path, **{**defaults, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_a_published_trace_compressed_or_not(tmp_path: Path, name: str) -> None:
    source = read(written(tmp_path, PLAIN, name))
    assert source.trace.counts() == {"a": 2, "b": 1}
    assert source.trace.at_s.tolist() == [0, 5, 7.5]
    assert source.snapshot is None


def test_it_can_be_scaled_to_a_rate(tmp_path: Path) -> None:
    assert read(written(tmp_path, PLAIN), rate_per_s=10.0).trace.rate_per_s == pytest.approx(10.0)


def test_aliases_name_their_models(tmp_path: Path) -> None:
    source = read(written(tmp_path, PLAIN), known={"a": "big", "big": "big", "b": "small"})
    assert source.trace.counts() == {"big": 2, "small": 1}


def test_a_trace_without_names_is_for_the_only_model_there_is(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.68,10,9\n"
    path = written(tmp_path, text)
    assert read(path, known={"only": "only"}).trace.counts() == {"only": 2}
    assert read(path, single_model="mine").trace.counts() == {"mine": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace.csv: it is empty"),
        ("what,ever\n1,2\n", "trace.csv:1: the first line is of no format that is known"),
        ("time,model\n0,a\nsoon,a\n", "trace.csv:3: field 'time'"),
        ("time,model\n5,a\n0,a\n", "trace.csv:3: field 'time'"),
        ("time,model,service_s\n0,a,-1\n", "trace.csv:2: field 'service_s'"),
        ("time,model\n0,a\n1,zebra\n", "zebra"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said_by_file_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AskedWrongly) as caught:
        read(written(tmp_path, text), known={"a": "a"})
    assert said in caught.value.message
    assert "trace.csv" in caught.value.message


def recording(tmp_path: Path, *lines: str) -> Path:
    header = encode_line(Header(roundhouse="1.0", at_unix_s=999.0))
    return written(tmp_path, "\n".join([header, *lines]) + "\n", "run.jsonl")


def test_a_recording_is_a_trace_with_its_models(tmp_path: Path) -> None:
    lines = [
        encode_line(step()),
        encode_line(Arrivals(at_s=1000.5, model="n", count=2)),
        encode_line(Arrivals(at_s=1003.0, model="n", count=1, finished=4, service_s=1.5)),
        encode_line(Arrivals(at_s=1004.0, model="org/m", count=1)),
    ]
    source = read(recording(tmp_path, *lines))
    trace = source.trace
    assert trace.names == ("n", "org/m")
    assert trace.at_s.tolist() == [0.5, 0.5, 3.0, 4.0]
    assert trace.service_s.tolist() == [1.5, 1.5, 1.5, 0.0], "of m none was finished: nobody knows"
    assert trace.start_unix_s == 1000.0
    assert source.snapshot == step().snapshot


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "run.jsonl: no request was recorded"),
        (["{}"], "run.jsonl, line 2: is no line of a recording"),
        (['{"kind":"arrivals","at_s":"x","model":"a","count":1}'], "line 2: Expected `float`, got `str`"),
    ],
)
def test_a_recording_that_is_no_trace(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(AskedWrongly, match="run") as caught:
        read(recording(tmp_path, *lines))
    assert said in caught.value.message


def test_made_up_traffic_is_the_same_for_the_same_seed() -> None:
    spec = "zipf:models=5,rate=3,hours=0.5,service=2"
    first, again, other = (make_up(spec, seed, None).trace for seed in (1, 1, 2))
    assert np.array_equal(first.at_s, again.at_s)
    assert not np.array_equal(first.at_s[:50], other.at_s[:50])
    assert len(first.names) == 5
    assert first.duration_s < 1800
    assert first.rate_per_s == pytest.approx(3, rel=0.1)


def test_made_up_traffic_is_for_the_models_there_are() -> None:
    assert make_up("poisson:rate=1,duration=10m", 0, ["x", "y"]).trace.names == ("x", "y")


@pytest.mark.parametrize(
    ("spec", "said", "cure"),
    [
        ("zpif:rate=1", "'zpif' is no kind of traffic", "did you mean zipf?"),
        ("zipf:rtae=1", "'rtae=1' is not a setting", "did you mean rate?"),
        ("zipf:rate", "'rate' is not a setting", ""),
        ("zipf:rate=often", "rate_per_s: 'often' is not a number", ""),
        ("zipf:rate=-1", "traffic.rate_per_s must be above 0", ""),
        ("zipf:models=0", "traffic.models must be above 0", ""),
    ],
)
def test_traffic_that_cannot_be_made_up(spec: str, said: str, cure: str) -> None:
    with pytest.raises(AskedWrongly) as caught:
        make_up(spec, 0, None)
    assert said in caught.value.message
    assert cure in caught.value.cure

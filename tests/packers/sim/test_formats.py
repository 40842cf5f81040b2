"""Each format as it is published, in a few lines; and what is wrong with others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from packers.sim import Trace, TraceError, read_trace
from packers.sim.formats import FORMATS, recognise

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
"""
GENAI = """time,model_id,exec_time_s,num_inference_steps,num_lora
2024-11-15 16:57:50,M0000,32.0,30.0,0
2024-11-15 18:16:14,M0001,43.0,40.0,0
2024-11-15 18:16:14,M0000,,40.0,0
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 1500, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}
"""
RECORDING = """{"at_unix_s": 1700000010.5, "model": "b", "input_tokens": 12, "output_tokens": 64, "service_s": 1.75}
{"at_unix_s": 1700000010.0, "model": "a", "status": 200}
"""
PLAIN = """time,model,service_s,input_tokens,output_tokens
0,a,1.5,10,20
2.5,b,,,
"""
SERVEGEN = """category,client,window_start_s,rate_rps,cv,dist,p1,p2
m-large,chunk-0,0,2.0,1.0,Gamma,1.0,0.5
m-large,chunk-0,600,0,0,,0,0
m-large,chunk-0,1200,1.0,2.0,Gamma,0.25,4.0
m-mid,chunk-1,0,0.5,1.5,Weibull,0.7,1.5
m-mid,chunk-1,600,0.5,1.5,Weibull,0.7,1.5
"""
TEXTS = {
    "azure": AZURE,
    "genai": GENAI,
    "mooncake": MOONCAKE,
    "recording": RECORDING,
    "plain": PLAIN,
    "servegen": SERVEGEN,
}


def read(text: str, models: Iterable[str] | None = None) -> Trace:
    return read_trace(text.splitlines(keepends=True), "x.csv", models=None if models is None else set(models))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_each_format_is_recognised_by_its_first_line(name: str) -> None:
    assert recognise(TEXTS[name].splitlines()[0], "x") == name
    assert recognise("\ufeff" + TEXTS[name].splitlines()[0], "x") == name
    assert set(TEXTS) == set(FORMATS)


def test_azure() -> None:
    trace = read(AZURE)
    assert trace.names == ("model",)
    assert trace.at_s.tolist() == [0, pytest.approx(0.052)]
    assert trace.input_tokens.tolist() == [4808, 3180]
    assert trace.output_tokens.tolist() == [10, 8]
    assert trace.start_unix_s == pytest.approx(1700158623.97996)


def test_genai() -> None:
    trace = read(GENAI)
    assert trace.names == ("M0000", "M0001")
    assert trace.at_s.tolist() == [0, 4704, 4704]
    assert trace.service_s.tolist() == [32, 43, 0]


def test_mooncake_counts_milliseconds() -> None:
    trace = read(MOONCAKE)
    assert trace.at_s.tolist() == [0, 1.5]
    assert trace.input_tokens.tolist() == [6758, 7322]
    assert trace.blocks == ((0, 1), (0, 14))


def test_mooncake_without_blocks_has_none_and_wrong_ones_are_named() -> None:
    without = [line.partition(', "hash_ids"')[0] + "}" for line in MOONCAKE.splitlines()]
    assert read("\n".join(without)).blocks == ()
    for wrong in ("7", '"0,1"', "[0, -1]", "[0.5]", "[true]", "[[1]]"):
        with pytest.raises(TraceError, match=r"x\.csv:2: field 'hash_ids'.*must be a list of whole numbers from 0 on"):
            read(MOONCAKE.replace("[0, 14]", wrong))


def test_a_recording_may_be_out_of_order_and_have_gaps() -> None:
    trace = read(RECORDING)
    assert [trace.names[index] for index in trace.model] == ["a", "b"]
    assert trace.at_s.tolist() == [0, 0.5]
    assert trace.service_s.tolist() == [0, 1.75]
    assert trace.output_tokens.tolist() == [0, 64]
    assert trace.start_unix_s == 1700000010.0


def test_plain_with_seconds_or_dates() -> None:
    trace = read(PLAIN)
    assert trace.at_s.tolist() == [0, 2.5]
    assert trace.service_s.tolist() == [1.5, 0]
    dated = read("model,time\na,2024-01-01T00:00:00Z\nb,2024-01-01 00:00:10\n")
    assert dated.at_s.tolist() == [0, 10]
    assert dated.start_unix_s == 1704067200


def test_servegen_is_the_same_for_a_seed_and_has_the_rate_that_is_asked_for() -> None:
    lines = SERVEGEN.splitlines()
    one = read_trace(lines, "x", seed=3)
    assert one.names == ("m-large/chunk-0", "m-mid/chunk-1")
    assert one.at_s.tolist() == read_trace(lines, "x", seed=3).at_s.tolist()
    assert one.at_s.tolist() != read_trace(lines, "x", seed=4).at_s.tolist()
    assert len(one) == pytest.approx(2.0 * 600 + 1.0 * 600 + 0.5 * 1200, rel=0.15)
    scaled = read_trace(lines, "x", seed=3, rate_per_s=20)
    assert len(scaled) == pytest.approx(20 * 1800, rel=0.05)


def test_a_trace_of_one_model_is_called_as_told_and_scaled_to_a_rate() -> None:
    trace = read_trace(MOONCAKE.splitlines(), "x", model="llama", rate_per_s=4.0)
    assert trace.names == ("llama",)
    assert trace.rate_per_s == pytest.approx(4.0)


def test_empty_lines_are_nothing() -> None:
    assert len(read("\n" + PLAIN.replace("\n", "\n\n"))) == 2
    assert len(read(MOONCAKE.replace("\n", "\n\n"))) == 2


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("time,service_s\n0,1\n", 1, "model"),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,1\n", 1, "GeneratedTokens"),
        ("time,model_id,num_lora\n0,a,1\n", 1, "exec_time_s"),
        ("category,client,window_start_s,dist,p1\n", 1, "rate_rps"),
        ("time,model\n5,a\n4,a\n", 3, "time"),
        ("time,model\n-1,a\n", 2, "time"),
        ("time,model\nnan,a\n", 2, "time"),
        ("time,model\ninf,a\n", 2, "time"),
        ("time,model\nsoon,a\n", 2, "time"),
        ("time,model\n,a\n", 2, "time"),
        ("time,model\n0,a\n1,\n", 3, "model"),
        ("time,model\n0,a\n1\n", 3, "model"),
        ("time,model,service_s\n0,a,-1\n", 2, "service_s"),
        ("time,model,service_s\n0,a,NaN\n", 2, "service_s"),
        ("time,model,service_s\n0,a,fast\n", 2, "service_s"),
        ("time,model,input_tokens\n0,a,many\n", 2, "input_tokens"),
        (AZURE.replace("3180", "-3"), 3, "ContextTokens"),
        (AZURE.replace("18:17:04.03", "18:16:04.03"), 3, "TIMESTAMP"),
        (AZURE.replace("2023-11-16 18:17:04.0319600", "yesterday"), 3, "TIMESTAMP"),
        (GENAI.replace("43.0", "-43.0"), 3, "exec_time_s"),
        (MOONCAKE.replace("1500", '"late"'), 2, "timestamp"),
        (MOONCAKE.replace("1500", "true"), 2, "timestamp"),
        (MOONCAKE.replace('"output_length": 490', '"output": 490'), 2, "output_length"),
        (RECORDING.replace('"model": "a"', '"mode": "a"'), 2, "model"),
        (RECORDING.replace("1.75", "-1.75"), 1, "service_s"),
        (RECORDING.replace("1700000010.0", "-5"), 2, "at_unix_s"),
        (SERVEGEN.replace("1200,1.0", "1200,-1.0"), 4, "rate_rps"),
        (SERVEGEN.replace("Weibull", "Cauchy"), 5, "dist"),
        (SERVEGEN.replace("0.25", "0"), 4, "p1"),
        (SERVEGEN.replace("chunk-0,1200", "chunk-0,300"), 4, "window_start_s"),
    ],
)
def test_errors_name_file_line_and_field(text: str, line: int, field: str) -> None:
    with pytest.raises(TraceError) as error:
        read(text)
    assert (error.value.name, error.value.line, error.value.field) == ("x.csv", line, field)
    assert str(error.value).startswith(f"x.csv:{line}: field {field!r}: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("time,model\n", "no request"),
        ("category,client,window_start_s,rate_rps,dist,p1\n", "no client"),
        ("a,b,c\n1,2,3\n", "no format that is known"),
        ('{"x": 1}\n', "no format that is known"),
        ("{broken\n", "not JSON"),
        (MOONCAKE + "{broken\n", "x.csv:3: is not JSON"),
        (MOONCAKE + "[1]\n", "x.csv:3: is not a JSON object"),
        (
            SERVEGEN.replace("2.0,1.0", "0,1.0").replace("1.0,2.0", "0,2.0").replace("0.5,1.5", "0,1.5"),
            "no client sends",
        ),
    ],
)
def test_files_that_are_no_traces(text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says) as error:
        read(text)
    assert error.value.name == "x.csv"


@pytest.mark.parametrize(
    ("name", "field"), [("genai", "model_id"), ("plain", "model"), ("recording", "model"), ("servegen", "client")]
)
def test_unknown_models_are_named(name: str, field: str) -> None:
    with pytest.raises(TraceError, match="unknown") as error:
        read(TEXTS[name], models=["a", "M0000"])
    assert error.value.field == field
    assert len(read(PLAIN, models=["a", "b"])) == 2


def test_a_single_model_has_to_be_known_too() -> None:
    with pytest.raises(TraceError, match="'model', which is unknown"):
        read(AZURE, models=["a"])


def test_numbers_come_out_the_same_from_a_generator_of_lines() -> None:
    assert np.array_equal(read_trace((line for line in PLAIN.splitlines()), "x").at_s, read(PLAIN).at_s)

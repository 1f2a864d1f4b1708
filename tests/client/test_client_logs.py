"""Request ids, the log, metrics and traces."""

import json
import logging
import sys
from contextlib import contextmanager

import grpc
import keras_scgm_client
import keras_scgm_client.picture
import keras_scgm_client.tracing
import pytest
from client_checks import NOTHING_LISTENS, check_mask, error, good_answer, grpc_server, rest_answers
from keras_scgm_client import Client, SettingsError, logs
from keras_scgm_client.images import find_images
from keras_scgm_client.metrics import Metrics
from opentelemetry import trace
from tiny_serving import random_voxels


@contextmanager
def grpc_relay(address, seen):
    """Passes calls on to a server, and keeps their metadata."""

    def relay(call):
        seen.append(dict(call.invocation_metadata))
        onward = channel.unary_unary(call.method)
        return lambda request, context: onward(request)

    with grpc.insecure_channel(address) as channel, grpc_server(relay) as relayed:
        yield relayed


def test_requests_have_an_id_in_header_record_and_error_line(run, address, image, tmp_path):
    answers = error(503), good_answer()
    with rest_answers(*answers) as (url, seen):
        assert run("segment", image, "-o", tmp_path, "--server", url)[0] == 0
    ids = {headers["x-request-id"] for _, headers, _ in seen}
    record = json.loads((tmp_path / "0_gmseg.json").read_text())
    assert ids == {record["request_id"]}, "one for an image, whatever number of tries"
    assert len(record["request_id"]) == 32

    over_grpc = []
    with grpc_relay(address.grpc, over_grpc) as url, Client(url) as client:
        client.segment(image)
    assert (
        json.loads(image.with_name("0_gmseg.json").read_text())["request_id"] == over_grpc[0]["x-request-id"]
    )

    with rest_answers(error(400, "4-D")) as (url, seen):
        code, _, err = run("segment", image, "-o", tmp_path / "bad", "--server", url)
    assert code == 2
    assert err.endswith(f"the server refuses the image: 4-D (request {seen[0][1]['x-request-id']})\n")
    with rest_answers(error(401)) as (url, seen):
        err = run("segment", image, "-o", tmp_path / "bad", "--server", url)[2]
    assert f"(request {seen[0][1]['x-request-id']})" in err


def test_the_log_as_json(run, url, images):
    (images / "bad.nii").write_bytes(b"")
    code, out, err = run("segment", images, "--server", url, "--log-format", "json", "--jobs", "1")
    assert (code, out) == (2, "")
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "message"} <= set(lines[0])
    assert [line["level"] for line in lines].count("error") == 1
    (bad,) = (line for line in lines if line["level"] == "error")
    assert bad["image"] == str(images / "bad.nii")
    done = [line for line in lines if "mask" in line]
    assert {line["verdict"] for line in done} == {"pass"}
    assert len({line["request_id"] for line in done}) == 4
    assert (lines[-1]["segmented"], lines[-1]["failed"]) == (4, 1)


def test_lines_hold_nothing_that_a_terminal_obeys(capsys):
    logs.configure("text")
    logs.say(logging.INFO, "a\x1b[2J\nb.nii.gz")
    logs.say(logging.ERROR, "\x9b1m \u202e \udcff: zu groß", request_id="1\n2")
    assert capsys.readouterr() == (
        "a\\x1b[2J\\nb.nii.gz\n",
        "error: \\x9b1m \\u202e \\udcff: zu groß (request 1\\n2)\n",
    )


def test_metrics_of_a_run(run, images, tmp_path):
    file = tmp_path / "scgm.prom"
    answers = error(503), error(400, "4-D"), good_answer()
    with rest_answers(*answers) as (url, _):
        arguments = ("segment", images, "-o", tmp_path / "out", "--server", url, "--jobs", "1")
        run(*arguments, "--metrics-file", file)
    text = file.read_text()
    for line in (
        'scgm_client_requests_total{outcome="unavailable"} 1.0',
        'scgm_client_requests_total{outcome="refused"} 1.0',
        "scgm_client_request_seconds_count 5.0",
    ):
        assert line in text.splitlines()
    with rest_answers(error(401)) as (url, _):
        run("segment", images, "-o", tmp_path / "out2", "--server", url, "--metrics-file", file)
    assert 'outcome="error"' in file.read_text()
    code, _, err = run(
        "segment", images, "--server", "http://localhost", "--metrics-file", tmp_path / "no" / "x"
    )
    assert (code, "cannot be written" in err) == (2, True)


def samples(file):
    lines = (line.rsplit(" ", 1) for line in file.read_text().splitlines() if line[0] != "#")
    return {name: float(value) for name, value in lines if "_created" not in name}


def test_counters_go_on_from_the_run_before(run, address, image, tmp_path):
    """Otherwise Prometheus would see no increase between runs of the same size."""
    file = tmp_path / "scgm.prom"
    command = ("segment", image, "--server", address.rest_url, "--force", "--metrics-file", file)
    assert run(*command)[0] == 0
    once = samples(file)
    assert once['scgm_client_verdicts_total{verdict="pass"}'] == 1
    assert once['scgm_client_verdicts_total{verdict="fail"}'] == 0
    assert once['scgm_client_requests_total{outcome="ok"}'] == 1
    assert run(*command)[::2] == (0, "")
    twice = samples(file)
    assert set(twice) == set(once)
    assert twice['scgm_client_request_seconds_bucket{le="+Inf"}'] == 2
    assert twice["scgm_client_request_seconds_sum"] > once["scgm_client_request_seconds_sum"]
    assert twice['scgm_client_verdicts_total{verdict="pass"}'] == 2


@pytest.mark.parametrize("content", [b"scgm_client_verdicts_total{verdict", b"\xff\xfe"])
def test_a_damaged_file_of_metrics_is_named_and_begun_anew(run, address, image, tmp_path, content):
    file = tmp_path / "scgm.prom"
    file.write_bytes(content)
    code, _, err = run("segment", image, "--server", address.rest_url, "--metrics-file", file)
    assert (code, err) == (0, f"warning: {file}: not a file of metrics; the counters begin at 0\n")
    assert samples(file)['scgm_client_verdicts_total{verdict="pass"}'] == 1


def test_metrics_are_there_before_the_first_request(run, images, tmp_path):
    """Even of a run that stops at once."""
    file = tmp_path / "scgm.prom"
    assert run("segment", images, "--server", f"http://{NOTHING_LISTENS}", "--metrics-file", file)[0] == 2
    assert samples(file)['scgm_client_verdicts_total{verdict="fail"}'] == 0
    folder = tmp_path / "folder"
    folder.mkdir()
    code, _, err = run("segment", images, "--server", f"http://{NOTHING_LISTENS}", "--metrics-file", folder)
    assert (code, err) == (2, f"error: {folder}: cannot be read (Is a directory); check --metrics-file\n")


def test_verdicts_are_counted(url, images):
    metrics = Metrics()
    with Client(url, metrics=metrics) as client:
        assert len(list(client.segment_all(find_images(images)[0]))) == 4
    value = metrics.registry.get_sample_value
    assert value("scgm_client_verdicts_total", {"verdict": "pass"}) == 4
    assert value("scgm_client_requests_total", {"outcome": "ok"}) == 4


def test_metrics_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"pip install 'keras-scgm-client\[metrics\]'"):
        Metrics()


def test_requests_join_the_callers_trace(image):
    """With OpenTelemetry's API alone: the server gets the span that is current in the program."""
    context = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(1))
    with rest_answers(good_answer()) as (url, seen), Client(url) as client:
        with trace.use_span(trace.NonRecordingSpan(context)):
            client.segment(image)
        client.segment(image)
    assert seen[0][1]["traceparent"] == f"00-{7:032x}-{9:016x}-01"
    assert "traceparent" not in seen[1][1]


def test_tracing_that_is_not_installed(monkeypatch, url, image):
    monkeypatch.setattr(keras_scgm_client.tracing, "_INSTALLED", False)
    with Client(url) as client:
        check_mask(client.segment(image), random_voxels(0))

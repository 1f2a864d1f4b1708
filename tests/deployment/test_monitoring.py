"""Alert expressions and the Grafana dashboard."""

import json
import re

import promql_parser
import pytest
from deployment_files import SERVING, documents
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def alerts():
    (rule,) = documents(SERVING / "k8s" / "alerts.yaml")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def panels():
    return json.loads((SERVING / "k8s" / "dashboard.json").read_text())["panels"]


def test_alert_expressions():
    rules = alerts()
    assert len({alert["alert"] for alert in rules}) == len(rules) >= 5
    for alert in rules:
        promql_parser.parse(alert["expr"])
        assert {"severity"} == set(alert["labels"])
    with pytest.raises(ValueError, match=r"expected|unclosed|unexpected|invalid"):
        promql_parser.parse("sum(rate(:tensorflow:serving:request_count[5m]) > 1")


def test_dashboard():
    document = json.loads((SERVING / "k8s" / "dashboard.json").read_text())
    # The models pass over unknown fields, so what they keep must be everything.
    kept = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    assert_within(document, kept)
    places = [panel["gridPos"] for panel in document["panels"]]
    squares = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(squares)) == len(squares), "panels overlap"
    assert max(x for x, _ in squares) < 24
    expressions = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    for expression in expressions:
        promql_parser.parse(expression)
    used = set(re.findall(r"(?<![\w:])(?:scgm_\w+)", " ".join(expressions)))
    assert used == {
        "scgm_client_verdicts_total",
        "scgm_client_requests_total",
        "scgm_client_request_seconds_bucket",
        "scgm_gateway_series_total",
        "scgm_gateway_verdicts_total",
        "scgm_gateway_pending",
    }


def test_status_requests_are_not_counted_as_predictions():
    """The server counts them among the requests of a model: with an empty API, and with the status OK."""
    expressions = [alert["expr"] for alert in alerts()]
    expressions += [target["expr"] for panel in panels() for target in panel["targets"]]
    selectors = re.findall(r":tensorflow:serving:(request_\w+){(.*?)}", " ".join(expressions))
    assert {name for name, _ in selectors} == {
        "request_count",
        "request_latency_bucket",
        "request_latency_count",
    }
    for name, labels in selectors:
        if name == "request_count":
            assert 'status="INVALID_ARGUMENT"' in labels or 'status!~"OK|' in labels
        else:
            assert 'API=~"(?i)predict"' in labels


def test_what_the_alert_on_models_does_not_see_is_said():
    text = " ".join((SERVING / "README.md").read_text().split())
    claim = text[text.index("the alert `GmModelNotLoaded` fires") :][:600]
    for words in ("warm-up requests fail", "the folder lacks", "v1/models/gm_nifti"):
        assert words in claim


def test_series_that_are_ignored_do_not_hide_that_others_wait():
    (stuck,) = (alert["expr"] for alert in alerts() if alert["alert"] == "GmGatewayStuck")
    assert 'scgm_gateway_series_total{outcome!="ignored"}' in stuck


def assert_within(part, whole, path=""):
    """Every value of a JSON document is in another."""
    if isinstance(part, dict):
        for name, value in part.items():
            assert name in whole, f"{path}/{name}"
            assert_within(value, whole[name], f"{path}/{name}")
    elif isinstance(part, list):
        assert len(part) == len(whole), path
        for k, (value, other) in enumerate(zip(part, whole, strict=True)):
            assert_within(value, other, f"{path}/{k}")
    else:
        assert part == whole, path


def test_dashboard_checker_refuses_a_slip():
    document = json.loads((SERVING / "k8s" / "dashboard.json").read_text())
    document["panels"][0]["titel"] = document["panels"][0].pop("title")
    kept = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    with pytest.raises(AssertionError, match="/panels/0/titel"):
        assert_within(document, kept)

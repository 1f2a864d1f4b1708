"""Every configuration file of `serving/` against the protobuf or schema that its reader has for it."""

import functools
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import crossplane
import kubernetes_validate
import promql_parser
import pytest
import yaml
from cloudcoil.models.cert_manager.v1 import Certificate
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from keras_scgm_client.client import MAX_UPLOAD_BYTES
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from keras_scgm.export.saved_model import BATCHES

SERVING = Path(__file__).parents[1] / "serving"
MANIFESTS = sorted(path for path in (SERVING / "k8s").glob("*.yaml") if path.name != "kustomization.yaml")
COMPOSE_FILES = [SERVING / "docker-compose.yml", SERVING / "docker-compose.cpu.yml"]
CUSTOM_RESOURCES = {
    "Certificate": Certificate,
    "PrometheusRule": PrometheusRule,
    "ServiceMonitor": ServiceMonitor,
}
NO_SCHEMA = {"Gateway", "TLSRoute"}
"""No package has the schemas of the Gateway API."""
EXAMPLES = {"gateway.yaml"}


@functools.cache
def described(message_name):
    """BatchingParameters and MonitoringConfig, which no package carries, from the server's .proto files."""
    kinds = descriptor_pb2.FieldDescriptorProto
    wrapper = {kind: f".google.protobuf.{kind}" for kind in ("Int64Value", "BoolValue", "StringValue")}
    file = descriptor_pb2.FileDescriptorProto(
        name="described.proto",
        package="described",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    batching = file.message_type.add(name="BatchingParameters")
    for name, number, kind in (
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("pad_variable_length_inputs", 7, None),
        ("allowed_batch_sizes", 6, "repeated"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
        ("max_execution_batch_size", 9, "Int64Value"),
    ):
        field = batching.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
        if kind is None:
            field.type = kinds.TYPE_BOOL
        elif kind == "repeated":
            field.type, field.label = kinds.TYPE_INT64, kinds.LABEL_REPEATED
        else:
            field.type, field.type_name = kinds.TYPE_MESSAGE, wrapper[kind]
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".described.PrometheusConfig",
        label=kinds.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"described.{message_name}"))


def parse(name, message_class):
    return text_format.Parse((SERVING / "config" / name).read_text(), message_class())


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def flags(arguments):
    return dict(argument.removeprefix("--").split("=") for argument in arguments)


@pytest.fixture(scope="module")
def compose():
    return {path.name: yaml.safe_load(path.read_text()) for path in COMPOSE_FILES}


def default(value):
    """What `${NAME:-default}` is when nobody sets the variable."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)


def bytes_of(quantity):
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(quantity)).groups()
    return float(number) * 1024 ** ["", "k", "m", "g"].index(unit.lower().removesuffix("i"))


def pod_of(name):
    """The pod template of a deployment, by file."""
    (template,) = (
        document["spec"]["template"]
        for document in documents(SERVING / "k8s" / name)
        if document["kind"] == "Deployment"
    )
    return template


@pytest.fixture(scope="module")
def container():
    (only,) = pod_of("deployment.yaml")["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def proxy_container():
    (only,) = pod_of("proxy.yaml")["spec"]["containers"]
    return only


@pytest.mark.parametrize("name", ["models.config", "models.canary.config"])
def test_models_config(name):
    models = parse(name, ModelServerConfig).model_config_list.config
    assert {model.name: model.base_path for model in models} == {
        "gm_nifti": "/models/gm_nifti",
        "gm_slices": "/models/gm_slices",
    }
    for model in models:
        served = list(model.model_version_policy.specific.versions)
        assert set(model.version_labels.values()) <= set(served)
        assert bool(served) == ("canary" in name)


def test_batching_parameters():
    text = files("keras_scgm.export").joinpath("batching_params.pbtxt").read_text(encoding="utf-8")
    batching = text_format.Parse(text, described("BatchingParameters")())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_execution_batch_size.value == 64
    assert batching.enable_large_batch_splitting.value, "a request of more slices would be refused"
    assert batching.max_batch_size.value == 1024
    assert tuple(sizes) == BATCHES, "each has a warm-up request"
    assert not batching.pad_variable_length_inputs, "would pad images with their first voxel"
    assert not batching.HasField("num_batch_threads"), "not read from a model's own file"


def test_the_usual_slip_in_batching_parameters_is_refused():
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch_size: 64", described("BatchingParameters")())


def test_session_and_monitoring_config(compose, container):
    assert parse("session.config", ConfigProto).gpu_options.allow_growth
    monitoring = parse("monitoring.config", described("MonitoringConfig")).prometheus_config
    assert monitoring.enable
    (monitor,) = documents(SERVING / "k8s" / "servicemonitor.yaml")
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == [monitoring.path]


def test_compose_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, *COMPOSE_FILES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_compose_files_fit_together(compose):
    gpu, cpu = compose["docker-compose.yml"]["services"], compose["docker-compose.cpu.yml"]["services"]
    assert default(gpu["serving"]["image"]) == default(cpu["serving"]["image"]) + "-gpu"
    assert set(gpu) == set(cpu)
    for name, service in gpu.items():
        assert service["extends"] == {"file": "docker-compose.cpu.yml", "service": name}
    # A service that is extended loses this.
    assert gpu["proxy"]["depends_on"] == cpu["proxy"]["depends_on"]
    (device,) = gpu["serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert all(port.startswith("127.0.0.1:") for port in cpu["serving"]["ports"])
    for service in cpu.values():
        for volume in service["volumes"]:
            here, there, mode = default(volume).split(":")
            assert mode == "ro"
            assert there in ("/secrets", "/models") or (SERVING / here).exists()


def test_containers_run_the_server_alike(compose, container):
    service = compose["docker-compose.cpu.yml"]["services"]["serving"]
    assert flags(service["command"]) == flags(container["args"])
    given = flags(service["command"])
    for name in (value for flag, value in given.items() if flag.endswith("_file")):
        assert (SERVING / name.removeprefix("/")).is_file()
    assert container["image"] == default(service["image"]) + "-gpu"


def test_containers_run_the_proxy_alike(compose, proxy_container):
    service = compose["docker-compose.cpu.yml"]["services"]["proxy"]
    assert proxy_container["image"] == default(service["image"])
    # The other images of this name have no njs.
    assert re.fullmatch(r"nginxinc/nginx-unprivileged:\d+\.\d+\.\d+-alpine", proxy_container["image"])
    pod = pod_of("proxy.yaml")["spec"]
    context = pod["securityContext"]
    assert default(service["user"]) == "101:101" == f"{context['runAsUser']}:{context['runAsGroup']}"
    mounted = {volume.split(":")[-2] for volume in service["volumes"]}
    assert mounted | {"/tmp"} == {mount["mountPath"] for mount in proxy_container["volumeMounts"]}
    (secrets,) = (volume["projected"] for volume in pod["volumes"] if volume["name"] == "secrets")
    assert (secrets["defaultMode"], context["fsGroup"]) == (0o440, 101)
    # Both know the server by the name in nginx.conf.
    text = (SERVING / "proxy" / "nginx.conf").read_text()
    servers = set(re.findall(r"^ +server ([\w-]+):(\d+);", text, re.MULTILINE))
    (names,) = compose["docker-compose.cpu.yml"]["services"]["serving"]["networks"]["default"].values()
    (known,) = documents(SERVING / "k8s" / "service.yaml")
    assert servers == {(name, str(port["port"])) for name in names for port in known["spec"]["ports"]}
    assert names == [known["metadata"]["name"]]


@pytest.mark.parametrize(("service", "file"), [("serving", "deployment.yaml"), ("proxy", "proxy.yaml")])
def test_nothing_is_privileged_or_without_a_limit(compose, service, file):
    composed = compose["docker-compose.cpu.yml"]["services"][service]
    assert composed["cap_drop"] == ["ALL"]
    assert "cap_add" not in composed
    assert composed["security_opt"] == ["no-new-privileges:true"]
    assert composed["read_only"] is True
    assert composed["memswap_limit"] == composed["mem_limit"]
    assert composed["pids_limit"] > 0
    assert not default(composed["user"]).startswith("0")
    (tmpfs,) = composed["tmpfs"]
    pod = pod_of(file)["spec"]
    (only,) = pod["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    temporary = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
    assert [f"/tmp:size={int(bytes_of(folder['sizeLimit']) / 2**20)}m" for folder in temporary] == [
        tmpfs.replace("1g", "1024m")
    ]
    assert bytes_of(only["resources"]["limits"]["memory"]) == bytes_of(composed["mem_limit"])


def test_what_the_proxy_lets_in_fits(compose):
    text = (SERVING / "proxy" / "nginx.conf").read_text()
    at_a_time = int(re.search(r"limit_conn all (\d+);", text)[1])
    of_one = int(re.search(r"limit_conn users (\d+);", text)[1])
    body = bytes_of(re.search(r"client_max_body_size (\w+);", text)[1])
    services = compose["docker-compose.cpu.yml"]["services"]
    (tmpfs,) = services["proxy"]["tmpfs"]
    assert at_a_time * body <= bytes_of(tmpfs.split("size=")[1]) < bytes_of(services["proxy"]["mem_limit"])
    assert of_one < at_a_time, "or one token would lock out all others"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_schema(path):
    for document in documents(path):
        model = CUSTOM_RESOURCES.get(document["kind"])
        if document["kind"] in NO_SCHEMA:
            continue
        if model:
            # The models pass over unknown fields, so what they keep must be everything.
            kept = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
            assert kept == document
        else:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_schema_refuses_a_slip():
    (deployment,) = documents(SERVING / "k8s" / "deployment.yaml")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_resources_refer_to_each_other(container):
    found = {
        (document["kind"], document["metadata"]["name"]): document
        for path in MANIFESTS
        for document in documents(path)
    }
    for name in ("gm-serving", "gm-proxy"):
        pod = found["Deployment", name]["spec"]["template"]
        label = {"app.kubernetes.io/name": name}
        assert pod["metadata"]["labels"].items() >= label.items()
        assert found["Deployment", name]["spec"]["selector"]["matchLabels"] == label
        assert found["Service", name]["spec"]["selector"] == label
        assert found["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"] == label
        (only,) = pod["spec"]["containers"]
        ports = {port["name"] for port in only["ports"]}
        assert {port["targetPort"] for port in found["Service", name]["spec"]["ports"]} == ports
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in only["volumeMounts"]} == volumes
    for kind in ("PodDisruptionBudget", "ServiceMonitor"):
        assert found[kind, "gm-serving"]["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "gm-serving"
        }
    scaled = found["HorizontalPodAutoscaler", "gm-serving"]["spec"]["scaleTargetRef"]["name"]
    assert ("Deployment", scaled) in found
    (claim,) = (
        volume["persistentVolumeClaim"]["claimName"]
        for volume in found["Deployment", "gm-serving"]["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    )
    assert ("PersistentVolumeClaim", claim) in found
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert all(container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))


def test_only_the_proxy_reaches_the_server():
    server, proxy = (policy["spec"] for policy in documents(SERVING / "k8s" / "network.yaml"))
    clients, monitoring = server["ingress"]
    assert clients["from"] == [{"podSelector": {"matchLabels": {"gm-serving/client": "true"}}}]
    assert pod_of("proxy.yaml")["metadata"]["labels"]["gm-serving/client"] == "true"
    assert [port["port"] for port in monitoring["ports"]] == ["rest"]
    assert [port["port"] for rule in proxy["ingress"] for port in rule["ports"]] == ["https"]
    to_server, names = proxy["egress"]
    assert to_server["to"] == [{"podSelector": server["podSelector"]}]
    assert {port["port"] for port in names["ports"]} == {53}


def kustomization(folder):
    (document,) = documents(SERVING / folder / "kustomization.yaml")
    return document


def test_kustomizations_are_complete(container, proxy_container):
    listed = kustomization("k8s")["resources"]
    for resource in listed:
        assert (SERVING / "k8s" / resource).exists()
    assert {path.name for path in MANIFESTS} - EXAMPLES == {
        resource for resource in listed if resource.endswith(".yaml")
    }
    generated = {}
    for folder in ("k8s", "config", "proxy"):
        for generator in kustomization(folder)["configMapGenerator"]:
            assert all((SERVING / folder / name).is_file() for name in generator["files"])
            generated[generator["name"]] = set(generator["files"])
    needed = {Path(value).name for flag, value in flags(container["args"]).items() if flag.endswith("_file")}
    assert generated["gm-serving-config"] == needed | {"models.canary.config"}
    mounted = {mount["subPath"] for mount in proxy_container["volumeMounts"] if "subPath" in mount}
    assert generated["gm-proxy-config"] == mounted
    for file in ("deployment.yaml", "proxy.yaml"):
        (name,) = (v["configMap"]["name"] for v in pod_of(file)["spec"]["volumes"] if "configMap" in v)
        assert name in generated


def test_configuration_that_changes_under_a_running_server_is_no_sub_path(container, proxy_container):
    """Such a file would never change; where nginx needs one, the ConfigMap's name changes and restarts it."""
    assert not any("subPath" in mount for mount in container["volumeMounts"])
    assert kustomization("config")["generatorOptions"] == {"disableNameSuffixHash": True}
    assert "generatorOptions" not in kustomization("proxy")
    secrets = next(mount for mount in proxy_container["volumeMounts"] if mount["name"] == "secrets")
    assert "subPath" not in secrets


def test_the_example_gateway_leads_to_the_proxy():
    gateway, route, certificate = documents(SERVING / "k8s" / "gateway.yaml")
    (listener,) = gateway["spec"]["listeners"]
    assert (listener["protocol"], listener["tls"]) == ("TLS", {"mode": "Passthrough"})
    assert route["spec"]["parentRefs"] == [
        {"name": gateway["metadata"]["name"], "sectionName": listener["name"]}
    ]
    (service,) = (d for d in documents(SERVING / "k8s" / "proxy.yaml") if d["kind"] == "Service")
    ((backend,),) = (rule["backendRefs"] for rule in route["spec"]["rules"])
    assert backend == {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    assert route["spec"]["hostnames"] == certificate["spec"]["dnsNames"] == [listener["hostname"]]
    secrets = next(v for v in pod_of("proxy.yaml")["spec"]["volumes"] if v["name"] == "secrets")
    named = {source["secret"]["name"] for source in secrets["projected"]["sources"]}
    assert certificate["spec"]["secretName"] in named


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomization_builds():
    built = subprocess.run(
        ["kubectl", "kustomize", str(SERVING / "k8s")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    for resource in resources:
        assert resource["kind"] == "Namespace" or resource["metadata"]["namespace"] == "gm-serving"
        if resource["kind"] not in CUSTOM_RESOURCES:
            kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    maps = {r["metadata"]["name"]: r["data"] for r in resources if r["kind"] == "ConfigMap"}
    shipped = {path.name: path.read_text() for path in (SERVING / "config").glob("*.config")}
    assert maps.pop("gm-serving-config") == shipped
    assert maps.pop("gm-dashboard") == {"dashboard.json": (SERVING / "k8s" / "dashboard.json").read_text()}
    ((name, data),) = maps.items()
    assert data["nginx.conf"] == (SERVING / "proxy" / "nginx.conf").read_text()
    assert name in built.stdout.split("kind: Deployment")[1]


def test_alert_expressions():
    (rule,) = documents(SERVING / "k8s" / "alerts.yaml")
    rules = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
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


def test_proxy_configuration():
    path = SERVING / "proxy" / "nginx.conf"
    errors = {str(error["error"]) for error in crossplane.parse(str(path), strict=True)["errors"]}
    # Entries of a map, and what is newer than the parser: http2 (nginx 1.25.1) and njs.
    assert {re.search(r'unknown directive "(.*?)"', error)[1] for error in errors} <= {
        *("http2", "js_import", "js_set"),
        *(entry for entry in map_entries(path.read_text())),
    }
    megabytes = int(re.search(r"client_max_body_size (\d+)m", path.read_text())[1])
    assert megabytes * 2**20 > MAX_UPLOAD_BYTES * 4 / 3 + 2**20


def map_entries(text):
    """What stands for a directive in the map blocks of an nginx file."""
    for block in re.findall(r"^ +map [^{]+\{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL):
        yield from (re.match(r'("?)(.*?)\1\s', line.strip())[2] for line in block.splitlines())


def test_proxy_checker_refuses_a_slip(tmp_path):
    text = (SERVING / "proxy" / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(text.replace("client_max_body_size", "client_max_body_sise"))
    errors = crossplane.parse(str(tmp_path / "nginx.conf"), strict=True)["errors"]
    assert any("client_max_body_sise" in str(error["error"]) for error in errors)


@pytest.mark.parametrize("path", sorted(SERVING.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_well_formed(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0

"""Every configuration file of `serving/` against the protobuf or schema that its reader has for it."""

import functools
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
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from keras_scgm_client.client import MAX_UPLOAD_BYTES
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

SERVING = Path(__file__).parents[1] / "serving"
MANIFESTS = sorted((SERVING / "k8s").glob("*.yaml"))
COMPOSE_FILES = [SERVING / "docker-compose.yml", SERVING / "docker-compose.cpu.yml"]
CUSTOM_RESOURCES = {"ServiceMonitor": ServiceMonitor, "PrometheusRule": PrometheusRule}


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


@pytest.fixture(scope="module")
def container():
    (deployment,) = documents(SERVING / "k8s" / "deployment.yaml")
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
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
    text = files("keras_scgm.serving").joinpath("batching_params.pbtxt").read_text(encoding="utf-8")
    batching = text_format.Parse(text, described("BatchingParameters")())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value == 64
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
    assert gpu["serving"]["image"] == cpu["serving"]["image"] + "-gpu"
    assert set(gpu) == set(cpu)
    for name, service in gpu.items():
        assert service["extends"] == {"file": "docker-compose.cpu.yml", "service": name}
    (device,) = gpu["serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert all(port.startswith("127.0.0.1:") for port in cpu["serving"]["ports"])
    for service in cpu.values():
        for volume in service["volumes"]:
            assert volume.endswith(":ro")
            if volume.startswith("./"):
                assert (SERVING / volume.split(":")[0]).exists()


def test_containers_run_the_server_alike(compose, container):
    arguments = compose["docker-compose.cpu.yml"]["services"]["serving"]["command"]
    assert flags(arguments) == flags(container["args"])
    given = flags(arguments)
    for name in (value for flag, value in given.items() if flag.endswith("_file")):
        assert (SERVING / name.removeprefix("/")).is_file()
    version = compose["docker-compose.cpu.yml"]["services"]["serving"]["image"]
    assert container["image"] == re.sub(r"\$\{.*:-(.*)\}", r"\1", version) + "-gpu"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_schema(path):
    for document in documents(path):
        model = CUSTOM_RESOURCES.get(document["kind"])
        if document["kind"] == "Kustomization":
            assert all((path.parent / resource).exists() for resource in document["resources"])
        elif model:
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
    by_kind = {document["kind"]: document for path in MANIFESTS for document in documents(path)}
    pod = by_kind["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (
        by_kind["Deployment"]["spec"]["selector"]["matchLabels"],
        by_kind["Service"]["spec"]["selector"],
        by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        by_kind["ServiceMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert (
        by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == by_kind["Deployment"]["metadata"]["name"]
    )
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} == ports == {"grpc", "rest"}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert (
        volumes["models"]["persistentVolumeClaim"]["claimName"]
        == by_kind["PersistentVolumeClaim"]["metadata"]["name"]
    )
    (generator,) = documents(SERVING / "config" / "kustomization.yaml")[0]["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generator["name"]
    needed = {Path(value).name for flag, value in flags(container["args"]).items() if flag.endswith("_file")}
    assert needed == set(generator["files"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert all(container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomization_builds():
    built = subprocess.run(
        ["kubectl", "kustomize", str(SERVING / "k8s")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    config = next(resource for resource in resources if resource["kind"] == "ConfigMap")
    assert config["data"]["models.config"] == (SERVING / "config" / "models.config").read_text()


def test_alert_expressions():
    (rule,) = documents(SERVING / "k8s" / "alerts.yaml")
    rules = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert len({alert["alert"] for alert in rules}) == len(rules) >= 5
    for alert in rules:
        promql_parser.parse(alert["expr"])
        assert {"severity"} == set(alert["labels"])
    with pytest.raises(ValueError, match=r"expected|unclosed|unexpected|invalid"):
        promql_parser.parse("sum(rate(:tensorflow:serving:request_count[5m]) > 1")


def test_proxy_configuration():
    path = SERVING / "proxy" / "nginx.conf"
    errors = {str(error["error"]) for error in crossplane.parse(str(path), strict=True)["errors"]}
    # The tokens lie elsewhere in the container; entries of a map, and http2 (nginx 1.25.1), are unknown to the
    # parser.
    assert [error for error in errors if "tokens.map" not in error and "default" not in error] == [
        error for error in errors if 'unknown directive "http2"' in error
    ]
    megabytes = int(re.search(r"client_max_body_size (\d+)m", path.read_text())[1])
    assert megabytes * 2**20 > MAX_UPLOAD_BYTES * 4 / 3 + 2**20


def test_proxy_checker_refuses_a_slip(tmp_path):
    text = (SERVING / "proxy" / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(text.replace("client_max_body_size", "client_max_body_sise"))
    errors = crossplane.parse(str(tmp_path / "nginx.conf"), strict=True)["errors"]
    assert any("client_max_body_sise" in str(error["error"]) for error in errors)


def test_no_token_is_given_out():
    lines = (SERVING / "proxy" / "tokens.map").read_text().splitlines()
    assert all(line.startswith("#") for line in lines)


@pytest.mark.parametrize("path", sorted(SERVING.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_well_formed(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0

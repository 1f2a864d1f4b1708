"""The Kubernetes manifests against their schemas, and what they refer to."""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.cert_manager.v1 import Certificate
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from deployment_files import MANIFESTS, SERVING, documents, flags, pod_of

CUSTOM_RESOURCES = {
    "Certificate": Certificate,
    "PrometheusRule": PrometheusRule,
    "ServiceMonitor": ServiceMonitor,
}
NO_SCHEMA = {"Gateway", "TLSRoute"}
"""No package has the schemas of the Gateway API."""
EXAMPLES = {"gateway.yaml"}


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


def test_health_checks_are_no_requests_of_a_model(container):
    """The server counts those; its gRPC health service answers for the whole server, whose service name is empty."""
    assert flags(container["args"])["enable_grpc_healthcheck_service"] == "true"
    (port,) = (port["containerPort"] for port in container["ports"] if port["name"] == "grpc")
    for probe in ("startupProbe", "readinessProbe"):
        assert "httpGet" not in container[probe]
        assert container[probe]["grpc"] == {"port": port}


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

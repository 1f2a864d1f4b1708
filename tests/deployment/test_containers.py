"""The compose files, and that Docker and Kubernetes run the same containers."""

import re
import subprocess
import sys

import pytest
from deployment_files import COMPOSE_FILES, SERVING, bytes_of, default, documents, flags, pod_of


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
    folders_of_the_operator = set()
    for service in cpu.values():
        for volume in service["volumes"]:
            if isinstance(volume, dict):
                # A name that is wrong must not become an empty folder.
                assert (volume["type"], volume["read_only"]) == ("bind", True)
                assert volume["bind"] == {"create_host_path": False}
                folders_of_the_operator.add(volume["target"])
            else:
                here, _, mode = volume.split(":")
                assert mode == "ro"
                assert (SERVING / here).exists()
    assert folders_of_the_operator == {"/models", "/secrets"}


def test_no_command_serves_other_models_than_the_one_before(compose):
    """GM_MODELS has no default, and the documented commands keep it in .env."""
    service = compose["docker-compose.cpu.yml"]["services"]["serving"]
    (models,) = (volume["source"] for volume in service["volumes"] if isinstance(volume, dict))
    assert models.startswith("${GM_MODELS:?")
    pages = [SERVING / "README.md", SERVING.parent / "docs" / "tutorials" / "serving.md", *COMPOSE_FILES]
    for page in pages:
        text = page.read_text()
        assert 'echo "GM_MODELS=' in text
        assert not re.search(r"GM_MODELS=\S+ docker", text)


def test_containers_run_the_server_alike(compose, container):
    service = compose["docker-compose.cpu.yml"]["services"]["serving"]
    assert flags(service["command"]) == flags(container["args"])
    given = flags(service["command"])
    for name in (value for flag, value in given.items() if flag.endswith("_file")):
        assert (SERVING / name.removeprefix("/")).is_file()
    assert container["image"] == default(service["image"]) + "-gpu"


def test_a_stop_leaves_time_for_the_longest_request(compose, container):
    """The server ignores SIGTERM, so this time is all that a request has."""
    services = compose["docker-compose.cpu.yml"]["services"]
    for name, file in (("serving", "deployment.yaml"), ("proxy", "proxy.yaml")):
        seconds = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert seconds == pod_of(file)["spec"]["terminationGracePeriodSeconds"]
        assert seconds > int(flags(container["args"])["rest_api_timeout_in_ms"]) / 1000


def test_containers_run_the_proxy_alike(compose, proxy_container):
    service = compose["docker-compose.cpu.yml"]["services"]["proxy"]
    assert proxy_container["image"] == default(service["image"])
    # The other images of this name have no njs.
    assert re.fullmatch(r"nginxinc/nginx-unprivileged:\d+\.\d+\.\d+-alpine", proxy_container["image"])
    pod = pod_of("proxy.yaml")["spec"]
    context = pod["securityContext"]
    assert default(service["user"]) == "101:101" == f"{context['runAsUser']}:{context['runAsGroup']}"
    mounted = {
        volume["target"] if isinstance(volume, dict) else volume.split(":")[1]
        for volume in service["volumes"]
    }
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

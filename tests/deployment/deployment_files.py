"""The files of `serving/` as the tests of the deployment read them."""

import re
from pathlib import Path

import yaml

SERVING = Path(__file__).parents[2] / "serving"
MANIFESTS = sorted(path for path in (SERVING / "k8s").glob("*.yaml") if path.name != "kustomization.yaml")
COMPOSE_FILES = [SERVING / "docker-compose.yml", SERVING / "docker-compose.cpu.yml"]


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def flags(arguments):
    return dict(argument.removeprefix("--").split("=") for argument in arguments)


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

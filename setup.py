"""Maps the top-level ``weights/`` folder into the package; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["keras_scgm", "keras_scgm.*", "keras_scgm_cli"]), "keras_scgm.weights"],
    package_dir={"keras_scgm.weights": "weights"},
    package_data={
        "keras_scgm": ["py.typed", "quality.json"],
        "keras_scgm.evaluation": ["published.json", "report.html"],
        "keras_scgm.serving": ["batching_params.pbtxt"],
        "keras_scgm.weights": ["*.json", "*.weights.h5"],
    },
)

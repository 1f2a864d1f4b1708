"""Maps folders of the top level into packages; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["keras_scgm", "keras_scgm.*", "keras_scgm_cli"]),
        "keras_scgm.weights",
        "keras_scgm_devserver",
    ],
    package_dir={
        "keras_scgm.weights": "weights",
        "keras_scgm_devserver": "serving/devserver/keras_scgm_devserver",
    },
    package_data={
        "keras_scgm": ["py.typed"],
        "keras_scgm.evaluation": ["published.json", "report.html"],
        "keras_scgm.export": ["batching_params.pbtxt"],
        "keras_scgm.quality": ["model.json", "model_with_cord.json"],
        "keras_scgm.study.page": ["*.css", "*.gz", "*.html", "*.js", "*.txt"],
        "keras_scgm.webpage": ["*.css", "*.js"],
        "keras_scgm.weights": ["*.json", "*.weights.h5"],
    },
)

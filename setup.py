"""Maps folders of the top level into packages; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithCitation(build_py):
    """Copies CITATION.cff into the package; an editable install reads it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file("CITATION.cff", str(self._copy))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), "CITATION.cff"]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(self._copy)]

    def get_output_mapping(self) -> dict[str, str]:
        return {**super().get_output_mapping(), str(self._copy): "CITATION.cff"}

    @property
    def _copy(self) -> Path:
        return Path(self.build_lib, "keras_scgm", "CITATION.cff")


setup(
    cmdclass={"build_py": BuildWithCitation},
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

"""CITATION.cff is the one source of citation and version."""

import runpy
from importlib.metadata import version
from pathlib import Path

import setuptools

from keras_scgm_cli.cite import read_citation

ROOT = Path(__file__).parents[1]


def test_the_citation_is_printed_as_text_and_for_bibtex(run):
    code, out, err = run("cite")
    assert (code, err) == (0, "")
    text, program, empty, *bibtex = out.splitlines()
    assert text == (
        "Perone CS, Calabrese E, Cohen-Adad J (2018). Spinal cord gray matter segmentation using deep dilated "
        "convolutions. Scientific Reports 8, 5966. https://doi.org/10.1038/s41598-018-24304-3"
    )
    assert program == f"Program: keras_scgm {version('keras_scgm')} (MIT licence)"
    assert not empty
    assert bibtex == [
        "@article{perone2018,",
        "  author = {Perone, Christian S. and Calabrese, Evan and Cohen-Adad, Julien},",
        "  title = {Spinal cord gray matter segmentation using deep dilated convolutions},",
        "  journal = {Scientific Reports},",
        "  volume = {8},",
        "  pages = {5966},",
        "  year = {2018},",
        "  doi = {10.1038/s41598-018-24304-3}",
        "}",
    ]


def test_the_file_belongs_to_this_version(run):
    assert read_citation()["version"] == version("keras_scgm")
    code, out, _ = run("--version")
    assert (code, out) == (0, f"keras_scgm {version('keras_scgm')}\nto cite it: keras-scgm cite\n")


def test_it_is_the_file_of_the_top_level():
    import yaml

    assert read_citation() == yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_every_file_of_a_build_has_a_source(monkeypatch):
    """A strict editable install links the files of the package to these."""
    settings = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: settings.update(given))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    build = settings["cmdclass"]["build_py"](setuptools.Distribution({**settings, "script_name": "setup.py"}))
    build.ensure_finalized()
    assert set(build.get_outputs(include_bytecode=False)) == set(build.get_output_mapping())
    assert all(Path(source).is_file() for source in build.get_output_mapping().values())

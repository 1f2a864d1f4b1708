"""CITATION.cff is the one source of citation and version."""

from importlib.metadata import version
from pathlib import Path

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

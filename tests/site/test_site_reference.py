"""The generated reference: complete, and the same as what the program does."""

import csv
import dataclasses
import json
import re
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
import yaml
from tiny_training import TINY

import keras_scgm
from docsite import descriptions
from docsite.api import MODULES, page_of
from docsite.commands import commands_page
from docsite.fields import default_of, described_fields
from docsite.reference import FOLDER, PAGES
from docsite.sources import LinkError, with_site_links, write_sources
from docsite.tables import tables_page
from docsite.weights import weights_page
from keras_scgm.adaptation import Suggestion
from keras_scgm.adaptation.guard import Check, Compared, Judgement
from keras_scgm.adaptation.report import write_report
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.calibration.output_files import _write_curve
from keras_scgm.evaluation import evaluate, write_evaluation
from keras_scgm.outputs import OutputPaths, write_outputs
from keras_scgm.pretrained import WeightsCard, list_weights
from keras_scgm.segmentation import Segmenter, segment
from keras_scgm.training import SyntheticBatches, TrainingConfig, train
from keras_scgm_cli.adapt import _row
from keras_scgm_cli.main import app

ROOT = Path(__file__).parents[2]
GENERATED = ("reference/api/index.md", *map(page_of, MODULES))


def test_the_navigation_has_every_page():
    def places(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values() if isinstance(entry, dict) else entry:
                yield from places(value)

    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    sources = ROOT / "build/docsite"
    pages = {path.relative_to(sources).as_posix() for path in sources.rglob("*.md")}
    assert sorted(places(navigation)) == sorted(pages - {"files"})


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_of_the_repository_are_what_the_program_says(name):
    """If not: python -m docsite.reference."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]()


def test_commands_have_every_option():
    page = commands_page()
    for name, command in typer.main.get_command(app).commands.items():
        section = re.search(rf"^## keras-scgm {name}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
                assert set(parameter.opts) <= set(re.findall(r"--?[\w-]+", section)), (name, parameter.opts)


@pytest.mark.parametrize("module", MODULES)
def test_the_python_reference_has_every_public_name(site, module):
    page = (site / page_of(module)).with_suffix(".html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="([\w.]+)"|<td><code>(\w+)</code></td>', page))
    shown = {one or other for one, other in shown}
    names = getattr(import_module(module), "__all__", ())
    assert {name for name in names if not name.startswith("__")} <= {one.rpartition(".")[2] for one in shown}
    assert any(one.startswith(f"{module}.") for one in shown)


def test_the_names_of_the_package_lead_to_their_definition(site):
    page = (site / "reference/api/index.html").read_text(encoding="utf-8")
    for name in set(keras_scgm.__all__) - {"__version__"}:
        assert re.search(rf'<a[^>]*href="[\w.]+\.html#keras_scgm\.[\w.]+\.{name}"', page), name


def test_the_weights_are_those_of_the_program():
    assert re.findall(r"^## (\w+)$", weights_page(), re.MULTILINE) == list_weights()


def key_paths(value, place=""):
    """Paths of the keys of a JSON object; the contents of settings and of reasons are their own."""
    if isinstance(value, list):
        for item in value:
            yield from key_paths(item, f"{place}[]") if isinstance(item, dict) else ()
    elif isinstance(value, dict):
        for key, item in value.items():
            path = f"{place}.{key}" if place else key
            yield path
            if path not in ("settings", "quality.reasons"):
                yield from key_paths(item, path)


def header(path):
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def columns_of(section):
    page = tables_page()
    text = re.search(rf"^### {re.escape(section)}$(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


@pytest.fixture(scope="module")
def result(tmp_path_factory, phantom):
    folder = tmp_path_factory.mktemp("result")
    nib.save(phantom, folder / "t2s.nii.gz")
    result = Segmenter("synthetic").segment(folder / "t2s.nii.gz")
    paths = OutputPaths.for_input(folder / "t2s.nii.gz")
    write_outputs(result, paths)
    return paths


def test_the_record_has_the_described_keys(result):
    record = json.loads(result.record.read_text(encoding="utf-8"))
    assert set(key_paths(record)) == set(descriptions.RECORD)
    assert columns_of("NAME_gmseg.json") == [*descriptions.RECORD]
    assert columns_of("The key `settings`") == [*record["settings"]]


def test_the_table_of_areas_has_the_described_columns(result):
    assert sorted(columns_of("NAME_gmseg_area.csv")) == sorted(header(result.areas))


def test_an_evaluation_has_the_described_columns(result, tmp_path):
    write_evaluation(evaluate({"model": result.mask}, result.mask), tmp_path)
    assert header(tmp_path / "cases.csv") == [*descriptions.CASES]
    assert header(tmp_path / "slices.csv") == [*descriptions.SLICES]
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    model = {f"models.NAME.{key}" for key in summary.pop("models")["model"]}
    assert {*summary, *model} == set(descriptions.SUMMARY_JSON)


def test_a_training_has_the_described_columns(tmp_path):
    train(dataclasses.replace(TINY, epochs=1, steps_per_epoch=1), SyntheticBatches(window_px=48), tmp_path)
    assert {*header(tmp_path / "log.csv"), "val_dsc"} == set(descriptions.LOG)


def test_a_calibration_has_the_described_columns(tmp_path):
    class Curve:
        thresholds = dsc = precision = recall = area_bias_mm2 = np.zeros(1)

    _write_curve(Curve, tmp_path / "curve.csv")
    assert header(tmp_path / "curve.csv") == [*descriptions.CALIBRATION]


def test_an_adaptation_has_the_described_columns_and_keys(tmp_path, blob_image, bright_network):
    result = segment(blob_image(), bright_network)
    judgement = Judgement((Check("question", 0.8, 0.9, 0.7, passed=True),))
    write_report(tmp_path, judgement, [Compared(result, result)])
    assert header(tmp_path / "changes.csv") == [*descriptions.CHANGES]
    assert [*key_paths(json.loads((tmp_path / "guard.json").read_text(encoding="utf-8")))] == [
        *descriptions.JUDGEMENT
    ]
    assert [*_row(1, Suggestion(Path("t2s.nii.gz"), 0, 0.1, 1.0))] == [*descriptions.SUGGESTED]


def test_the_default_of_settings_within_settings_names_what_differs():
    fields = {field.name: field for field in dataclasses.fields(TrainingConfig)}
    preset = AUGMENTATIONS["paper_challenge"]
    assert f"'rotation_degrees': {preset.rotation_degrees}" in default_of(fields["augmentation"])
    (window,) = (field for field in dataclasses.fields(WeightsCard) if field.name == "slices")
    assert default_of(window) == "as below"


def test_fields_without_a_description_are_refused():
    kind = dataclasses.make_dataclass("Kind", ["known", "unknown"])
    kind.__doc__ = "Kind.\n\n    Args:\n        known: What is\n            known.\n    "
    with pytest.raises(KeyError, match="unknown"):
        described_fields(kind)


def test_links_become_those_of_the_site(tmp_path):
    for name in (
        "docs/a/one.md",
        "docs/b/two.md",
        "docs/images/x.png",
        "benchmarks/README.md",
        "serving/s.sbatch",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    places = {
        "docs/a/one.md": "a/one.md",
        "docs/b/two.md": "b/two.md",
        "docs/images/x.png": "images/x.png",
        "benchmarks/README.md": "explanation/benchmarks.md",
    }
    text = (
        "[t](../b/two.md#x) ![i](../images/x.png) [b](../../benchmarks/README.md) [s](../../serving/s.sbatch)\n"
        "[g](../reference/g.md) [w](https://example.org/a.md)\n```\n[c](nothing.md)\n```\n"
    )
    written, linked = with_site_links(text, tmp_path, "docs/a/one.md", places, {"reference/g.md": ""})
    assert written == text.replace("../../benchmarks/README.md", "../explanation/benchmarks.md").replace(
        "../../serving/s.sbatch", "../files/serving/s.sbatch"
    )
    assert linked == {"serving/s.sbatch"}
    with pytest.raises(LinkError, match=r"docs/a/one\.md links to nothing\.md, which does not exist"):
        with_site_links("[c](nothing.md)", tmp_path, "docs/a/one.md", places, {})


def test_sources_are_those_of_the_last_build_alone(tmp_path):
    (tmp_path / "former.md").write_text("", encoding="utf-8")
    pages = write_sources(ROOT, tmp_path, {"reference/new.md": "# New", **dict.fromkeys(GENERATED, "")})
    assert "former.md" not in pages
    assert {"index.md", "changelog.md", "reference/new.md", "how-to/serving.md"} <= set(pages)

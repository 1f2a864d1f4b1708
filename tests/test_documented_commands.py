"""Commands and snippets of the documentation: each exists, and those of the pages below run, in small sizes."""

import ast
import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import tiny_adaptation
import typer
from annotated_data import SITES
from documented_blocks import PAGES, blocks_of, commands_of, short_commands_of, spans_of
from keras_scgm_client.cli import _parser
from keras_scgm_client.cli import main as client_main
from tiny_serving import save_tiny_models
from tiny_training import TINY

import keras_scgm.datasets.phantom as phantoms
import keras_scgm.training
from keras_scgm.adaptation import adapting
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.datasets.phantom import (
    PhantomConfig,
    draw_subject,
    write_challenge_dataset,
    write_study_dataset,
)
from keras_scgm.export import saved_model
from keras_scgm.outputs import OutputPaths, write_outputs
from keras_scgm.segmentation import Segmenter
from keras_scgm_cli.main import app

SMALL = {site: SITES[site] for site in (1, 2)}
QUICK = replace(
    TINY,
    epochs=1,
    steps_per_epoch=1,
    batch_size=1,
    validation_per_site=1,
    threshold_objective=None,
    window_px=48,
)
SMALL_ADAPTATION = replace(tiny_adaptation.TINY, epochs=1, steps_per_epoch=1)
SMALLER_ADAPTATION = "--guard lenient.json --spec small.json"


@dataclass(frozen=True)
class Run:
    """How a page is run.

    Args:
        smaller: Texts of the page and what takes their place.
        elsewhere: First words of commands that are for another place: installations, containers.
        data: Whether the data of `prepared` are there before.
        spans: Whether commands within the text run, too.
        made: Files and folders that the page must have made.
    """

    smaller: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    data: bool = False
    spans: bool = False
    made: tuple[str, ...] = ()


RUNS = {
    "docs/tutorials/first_mask.md": Run(
        elsewhere=("python3", ".", "pip"),
        made=(
            "keras_scgm_demo/phantom_t2s_gmseg_qc.png",
            *(f"masks/phantom_t2s_{name}" for name in ("gmseg.nii.gz", "wmseg.nii.gz", "seg.nii.gz")),
            *(f"masks/phantom_t2s_gmseg{name}" for name in ("_area.csv", "_qc.png", ".json")),
        ),
    ),
    "docs/tutorials/train_on_challenge.md": Run(
        smaller={"--subjects 4": "--subjects 2", "--epochs 9": "--epochs 2"},
        made=(
            *(f"run/{name}" for name in ("best.weights.h5", "best.json", "last.weights.h5", "last.json")),
            *(
                f"run/{name}"
                for name in ("log.csv", "curves.png", "samples.png", "spec.json", "data.json", "split.json")
            ),
            "run/state.npz",
            "cohort/site1-sc01-image.nii.gz",
            "cohort/site1-sc01-mask-r1.nii.gz",
            "cohort/site1-sc01-levels.txt",
            "masks/site1-sc01-image_gmseg.nii.gz",
            "tables/table3.csv",
        ),
    ),
    "docs/tutorials/few_labels.md": Run(
        smaller={
            '"slice_counts": [4, 2, 2]': '"slice_counts": [1, 1, 0], "window_px": 48',
            '"epochs": 4': '"epochs": 1',
            '"steps_per_epoch": 10': '"steps_per_epoch": 1',
        },
        made=("few/best.weights.h5", "tables_after/models.csv"),
    ),
    "docs/tutorials/transfer_learning.md": Run(
        smaller={
            "EPOCHS = 10": "EPOCHS = 1",
            "draw_hearts(12": "draw_hearts(4",
            "SIZE, CLASSES = 72": "SIZE, CLASSES = 48",
            '("synthetic", None)': '("synthetic",)',
        },
        made=("heart_synthetic.keras",),
    ),
    "docs/tutorials/adapt.md": Run(
        smaller={
            "matrix_size=100, n_slices=8": "matrix_size=72, n_slices=2",
            "range(8)": "range(2)",
            "--statistics-only": "--statistics-only --guard lenient.json",
            "adapt teacher": f"adapt teacher {SMALLER_ADAPTATION}",
        },
        data=True,
        made=(
            "statistics/changes.png",
            "tables/models.csv",
            "teacher/adapted.weights.h5",
            "next/suggested.csv",
        ),
    ),
    "docs/tutorials/serving.md": Run(
        elsewhere=("pip", "cd", "echo", "docker", "./smoke.sh"),
        made=("models/gm_nifti/1", "results/phantom_t2s_gmseg.json"),
    ),
    "docs/how-to/segment.md": Run(
        smaller={"dicom/sub-01/ --output results/": "study/ --output dicom_results/"},
        data=True,
        made=("results/sub-01_T2starw_gmseg.nii.gz", "t2s/a_t2s_gmseg.nii.gz", "mask_sections_regions.csv"),
    ),
    "docs/how-to/adapt.md": Run(
        smaller={
            "adapt RUN ": f"adapt RUN {SMALLER_ADAPTATION} ",
            "adapt RUN2": f"adapt RUN2 {SMALLER_ADAPTATION}",
            'adapt(scans, "RUN")': 'adapt(scans, "python", config=small)',
        },
        data=True,
        made=("RUN/guard.json", "RUN/changes.csv", "RUN1/suggested.csv", "RUN2/adapted.weights.h5"),
    ),
    "docs/how-to/evaluate.md": Run(
        data=True,
        spans=True,
        made=("tables/cases.csv", "report.html", "tissues/cord/cases.csv", "calibrated/calibration.csv"),
    ),
    "docs/how-to/study.md": Run(
        smaller={
            "BIDS_DIR OUT": "bids derivatives",
            "sub-01/anat/sub-01_T2starw": "sub-01/ses-1/anat/sub-01_ses-1_T2starw",
            'read_bids("raw")': 'read_bids("bids")',
        },
        elsewhere=("pip", "docker", "apptainer"),
        data=True,
        made=("derivatives/group/group.md", "derivatives/quality.html", "out/summary.tsv"),
    ),
    "docs/how-to/train.md": Run(
        smaller={"--trials 10": "--trials 1", "--folds 5": "--folds 2"},
        data=True,
        made=(
            "folds/ensemble.json",
            "run/tensorboard",
            "search/trials.csv",
            "preview.png",
            "python_run/log.csv",
        ),
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Small data of every kind that the how-to pages start from."""
    folder = tmp_path_factory.mktemp("prepared")
    write_challenge_dataset(folder / "cohort", 2, sites=SMALL, raters=2)
    write_challenge_dataset(folder / "challenge", 1, sites={1: SMALL[1]}, raters=2)
    subject = draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=2, off_centre_mm=0), seed=1)
    (folder / "study").mkdir()
    for name in ("t2s", "study/sub-01_T2starw", "study/a_t2s"):
        nib.save(subject.image, folder / f"{name}.nii.gz")
    result = Segmenter("synthetic").segment(folder / "challenge/site1-sc01-image.nii.gz")
    write_outputs(result, OutputPaths(folder / "results/site1-sc01-image_gmseg.nii.gz"))
    for name in ("others", "anna", "ben"):
        shutil.copytree(folder / "results", folder / name)
    result.mask.to_filename(folder / "mask.nii.gz")
    result.mask.to_filename(folder / "manual.nii.gz")
    result.cord.to_filename(folder / "cord.nii.gz")
    levels = nib.Nifti1Image(3 * np.asarray(result.cord.dataobj, np.uint8), result.cord.affine)
    levels.to_filename(folder / "levels.nii.gz")
    write_study_dataset(folder / "bids", 1)
    marks = [{"image": "sub-01/ses-1/anat/sub-01_ses-1_T2starw.nii.gz", "mark": "fail"}]
    (folder / "qc.yml").write_text(json.dumps({"marks": marks}))
    (folder / "lenient.json").write_text(tiny_adaptation.LENIENT.to_json())
    (folder / "small.json").write_text(SMALL_ADAPTATION.to_json())
    (folder / "my_scans").mkdir()
    (folder / "few").mkdir()
    for name in "ab":
        nib.save(subject.image, folder / f"my_scans/{name}.nii.gz")
    nib.save(subject.mask, folder / "few/a_gmseg.nii.gz")
    return folder


@pytest.fixture(scope="module")
def drawn(prepared):
    """One subject in place of those that the guard draws."""
    return (AnnotatedVolume(prepared / "my_scans/a.nii.gz", (prepared / "few/a_gmseg.nii.gz",), "a"),)


@pytest.mark.parametrize("page", RUNS)
@pytest.mark.usefixtures("untraced")
# KerasTuner 1.4 locks its oracle by the name of the thread.
@pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner")
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner")
# A worker of waitress that is stopped in a request leaves its temporary file to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO.*rb\\+:pytest.PytestUnraisableExceptionWarning"
)
def test_page_runs(page, run, prepared, drawn, tmp_path, monkeypatch):
    how = RUNS[page]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(phantoms, "write_challenge_dataset", partial(write_challenge_dataset, sites=SMALL))
    monkeypatch.setattr(saved_model, "export_saved_model", export_tiny_models)
    monkeypatch.setattr(adapting, "synthetic_subjects", lambda *_: drawn)
    monkeypatch.setattr(keras_scgm.training, "PRESETS", {**keras_scgm.training.PRESETS, "quick": QUICK})
    if how.data:
        shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    namespace, used = {"small": SMALL_ADAPTATION}, set()
    with ExitStack() as stack:
        servers = {}
        for block in [*blocks_of(page), *(spans_of(page) if how.spans else ())]:
            text = block.text
            for given, small in how.smaller.items():
                used |= {given} & {given if given in text else ""}
                text = text.replace(given, small)
            if block.title:
                (tmp_path / block.title).write_text(text, encoding="utf-8")
            elif block.language == "python":
                exec(compile(text, page, "exec"), namespace)
            elif block.language != "text":
                assert block.language == "", f"{page}: a block of {block.language} without a title"
                for words in replace(block, text=text).commands:
                    execute(words, run, how, stack, servers)
    assert used == set(how.smaller)
    missing = [name for name in how.made if not (tmp_path / name).exists()]
    assert missing == []


def export_tiny_models(weights, folder, **options):
    """In place of an export, which takes a minute; `tests/export` has what it writes."""
    models = save_tiny_models(folder)
    return SimpleNamespace(slices=models / "gm_slices/1", nifti=models / "gm_nifti/1", dsc=1.0)


def as_bytes(path):
    """Voxels from 0 to 255, which the tiny models read."""
    image = nib.load(path)
    voxels = image.get_fdata()
    nib.save(nib.Nifti1Image((255 * voxels / voxels.max()).astype(np.uint8), image.affine), path)


def execute(words, run, how, stack, servers):
    program, *arguments = words
    if program in how.elsewhere:
        return
    if words[:2] == ["keras-scgm", "serve"]:
        dev_server = pytest.importorskip("keras_scgm_devserver")
        catalogue = dev_server.Catalogue.load(arguments[1])
        started = stack.enter_context(dev_server.serve(catalogue, rest_port=0, grpc_port=0))
        servers["http://localhost:8501"] = started.rest_url
        as_bytes("images/phantom_t2s.nii.gz")
    elif program == "scgm-client":
        with pytest.raises(SystemExit) as stop:
            client_main([servers.get(word, word) for word in arguments])
        assert stop.value.code in (0, None), words
    else:
        assert program == "keras-scgm", words
        code, _, errors = run(*arguments)
        assert code == 0, (words, errors)


def options_of(command):
    return {
        spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)
    }


def client_options(verb):
    (commands,) = (action for action in _parser()._actions if action.choices and not action.option_strings)
    return {spelling for action in commands.choices[verb]._actions for spelling in action.option_strings}


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_pages_name(page):
    ours = typer.main.get_command(app).commands
    short = (["keras-scgm", *words] for words in short_commands_of(page, ours))
    for program, *words in (*commands_of(page), *short):
        if program not in ("keras-scgm", "scgm-client") or words[0].startswith("-") or words[0].isupper():
            continue
        verb = words[0]
        known = options_of(ours[verb]) if program == "keras-scgm" else client_options(verb)
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("-") and len(word) > 1}
        # Answers to commands in the style of another program are on the page about it.
        if "-i" in used:
            assert page.endswith("from_sct.md")
            continue
        assert used <= known | {"--help"}, (page, words)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_import_what_exists(page):
    for block in blocks_of(page):
        if block.language == "python":
            tree = ast.parse(block.text)
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), page, "exec"), {})

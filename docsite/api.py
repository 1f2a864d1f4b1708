"""Reference of the Python interface: a page per package, rendered from its docstrings by mkdocstrings."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import griffe

from docsite.markdown import table

FOLDER = "reference/api"

ROOT = Path(__file__).parents[1]
SEARCHED = [ROOT, ROOT / "serving/client", ROOT / "serving/devserver"]
"""Folders of the packages."""

MODULES = {
    "keras_scgm.models": "Networks with pretrained weights, and what they take and give",
    "keras_scgm.losses": "Dice and cross-entropy losses",
    "keras_scgm.metrics": "Dice coefficients as metrics",
    "keras_scgm.callbacks": "The learning rate of the paper, and stopping on collapse",
    "keras_scgm.augmentation": "Random deformations of images and masks",
    "keras_scgm.segmentation": "From an image to masks",
    "keras_scgm.cohort": "Many images",
    "keras_scgm.outputs": "The files of a result",
    "keras_scgm.picture": "Pictures of a result",
    "keras_scgm.quality.verdicts": "Verdicts and their reasons",
    "keras_scgm.morphometry": "Areas and shapes of gray matter, white matter and cord",
    "keras_scgm.study": "A whole study",
    "keras_scgm.study.page": "Quality pages of a study",
    "keras_scgm.study.group": "Statistics of a group",
    "keras_scgm.evaluation": "Masks against raters",
    "keras_scgm.calibration": "The threshold of a network",
    "keras_scgm.datasets": "Data sets of images and masks",
    "keras_scgm.datasets.phantom": "Synthetic images",
    "keras_scgm.training": "Training by the protocols of the paper",
    "keras_scgm.tuning": "Searches of settings",
    "keras_scgm.export.saved_model": "SavedModels for TensorFlow Serving",
    "keras_scgm.export.formats": "ONNX, OpenVINO and LiteRT",
    "keras_scgm.pretrained": "Weights and their cards",
    "keras_scgm.slices": "Slices of a volume and the way back to its grid",
    "keras_scgm.volume": "Volumes",
    "keras_scgm.errors": "Errors",
    "keras_scgm_client": "The client of a server, without TensorFlow",
    "keras_scgm_devserver": "The development server",
}
"""Modules of the reference, and what they are for."""


def page_of(module: str) -> str:
    """Place of a module's page on the site."""
    return f"{FOLDER}/{module.removeprefix('keras_scgm.').replace('.', '_')}.md"


def api_pages() -> dict[str, str]:
    """Text of the pages by their place on the site."""
    pages = {page_of(module): _page(module) for module in MODULES}
    pages[f"{FOLDER}/index.md"] = _index()
    return pages


def public_names(module: str) -> tuple[dict[str, str], list[str]]:
    """Public names of a package: those with a docstring, with the full names that render it, and all others.

    A name that is also a module, such as `keras_scgm.models.stages`, is rendered from there.

    Args:
        module: Full name of the package. Without `__all__`, it has no public names of its own.
    """
    package = griffe.load(module, search_paths=SEARCHED)
    described, others = {}, []
    for name in sorted(map(str, package.exports or ()), key=str.lower):
        member = package.members[name]
        try:
            if member.is_module:
                described[name] = f"{module}.{name}.{name}"
            elif member.has_docstring:
                described[name] = f"{module}.{name}"
            else:
                others.append(name)
        # One of several names of one assignment.
        except griffe.AliasResolutionError:
            others.append(name)
    return described, [name for name in others if not name.startswith("__")]


def _page(module: str) -> str:
    described, others = public_names(module)
    options = "\n    options:\n      members: false\n" if described or others else "\n"
    parts = [f"# {module}\n\n::: {module}{options}"]
    parts += [
        f"::: {path}\n    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n"
        for path in described.values()
    ]
    if others:
        values = vars(import_module(module))
        rows = [(f"`{name}`", f"`{_short(values[name])}`") for name in others]
        parts += ["## Other names\n", table(("Name", "Value"), rows), ""]
    return "\n".join(parts)


def _short(value: object) -> str:
    if isinstance(value, type):
        return f"class {value.__module__}.{value.__qualname__}"
    text = ", ".join(value) if isinstance(value, dict) else repr(value)
    return text.replace("|", "or")


def _index() -> str:
    import keras_scgm

    def path_of(name: str, module: str) -> str:
        return public_names(f"keras_scgm.{module}")[0].get(name, f"keras_scgm.{module}.{name}")

    names = [
        (f"[`{name}`][{path_of(name, module)}]", f"`keras_scgm.{module}`")
        for name, module in sorted(keras_scgm._MODULE_OF.items())
    ]
    modules = [
        (f"[`{module}`]({page_of(module).removeprefix(FOLDER + '/')})", title)
        for module, title in MODULES.items()
    ]
    return "\n".join(
        (
            "# Python interface",
            "",
            "`import keras_scgm` gives the names of the first table; all others are imported from their package. Wrong "
            "values raise `InputError`, which is a `ValueError`, with one line that says what was expected.",
            "",
            "## Names of `keras_scgm`",
            "",
            table(("Name", "Defined in"), names),
            "",
            "## Packages",
            "",
            table(("Package", "What it is for"), modules),
            "",
        )
    )

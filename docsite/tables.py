"""Reference of the columns of every table and the keys of every JSON file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from docsite import descriptions
from docsite.fields import default_of, described_fields, unit_of
from docsite.markdown import cell, table

INTRODUCTION = """# Tables and JSON files

Every column and every key that the program writes, with its unit; made from the program's own definitions.
Cells of values that are not known are empty in CSV files, `n/a` in the TSV files of a study and `null` in JSON files.
Lines end in CR LF in CSV files (RFC 4180), and in LF in TSV files.

- [`keras-scgm segment`](#segment)
- [`keras-scgm areas`](#areas)
- [`keras-scgm study`](#study)
- [`keras-scgm evaluate`](#evaluate)
- [`keras-scgm calibrate`](#calibrate)
- [`keras-scgm train`](#train), [`tune`](#tune) and [`adapt`](#adapt)
- [Weights](#cards-of-weights)
- [Settings](#settings)
"""

_UNIT_IN_TEXT = re.compile(r", (mm|mm²|mm³|s|pixels)$")


def tables_page() -> str:
    """The page of all tables and files."""
    return "\n".join((INTRODUCTION, *_segment(), *_study(), *_evaluate(), *_train(), *_cards(), *_settings()))


def _segment() -> Iterable[str]:
    from keras_scgm.morphometry import CrossSection, SliceArea
    from keras_scgm.morphometry.section_table import REGION_COLUMNS
    from keras_scgm.segmentation import SegmentationConfig

    yield "## segment\n"
    yield "### NAME_gmseg_area.csv\n\nA row per axial slice.\n"
    yield _areas(SliceArea, "equivalent_diameter_mm")
    yield "### NAME_gmseg.json\n\nHow the result was made.\n"
    yield keys(descriptions.RECORD)
    yield settings(SegmentationConfig, "The key `settings`")
    yield "## areas\n"
    yield "### NAME_sections.csv\n\nA row per axial slice.\n"
    yield _areas(CrossSection)
    yield (
        "### NAME_sections_regions.csv\n\nA row per region, with means: of columns in cord_ over its slices with cord, "
        "of all others over those with gray matter.\n"
    )
    yield columns(_measurements(REGION_COLUMNS) | descriptions.REGIONS)


def _study() -> Iterable[str]:
    from keras_scgm.study.columns import AREA_COLUMNS, SUMMARY_COLUMNS, describe
    from keras_scgm.study.group import groups, outliers, repeats, sessions, sites, spread
    from keras_scgm.study.page.marks import Mark

    yield "## study\n\nBeside each table a JSON file has the same texts, as BIDS wants it.\n"
    for name, text, names in (
        ("areas.tsv", "A row per image and slice.", AREA_COLUMNS),
        (
            "summary.tsv",
            "A row per image and region, followed by the columns of `participants.tsv`.",
            SUMMARY_COLUMNS,
        ),
    ):
        yield f"### {name}\n\n{text}\n"
        rows = [
            (f"`{column}`", cell(entry["Description"]), _unit(entry.get("Units", "")))
            for column, entry in describe(names).items()
        ]
        yield table(("Column", "Meaning", "Unit"), rows) + "\n"
    for name, text, group in (
        ("by_level", "Spread over participants, by region.", spread.COLUMNS),
        ("outliers", "Every image within its scanner, group and region.", outliers.COLUMNS),
        ("session_differences", "Change between the sessions of a participant.", sessions.COLUMNS),
        ("session_tests", "Change over all participants.", sessions.TEST_COLUMNS),
        ("test_retest", "Where runs repeat an image.", repeats.COLUMNS),
        ("groups", "Values by group of participants, such as patients and controls.", groups.COLUMNS),
        ("group_differences", "Every two groups compared.", groups.DIFFERENCE_COLUMNS),
        ("sites", "Values by site, vendor and scanner.", sites.COLUMNS),
        ("site_effects", "Whether sites and vendors differ.", sites.EFFECT_COLUMNS),
    ):
        yield f"### group/{name}.tsv\n\n{text}\n"
        rows = [(f"`{column.name}`", cell(column.description), _unit(column.units)) for column in group]
        yield table(("Column", "Meaning", "Unit"), rows) + "\n"
    yield "### qc.yml, qc.tsv\n\nMarks of a quality page, as its buttons save them and `group --exclude` reads them.\n"
    yield keys(
        {"image": "The image, as in `summary.tsv`."}
        | described_fields(Mark)
        | {"time": "When it was marked."}
    )


def _evaluate() -> Iterable[str]:
    yield "## evaluate\n"
    yield (
        "`table1.csv` to `table3.csv`, `breakdown.csv`, `raters.csv`, `models.csv` and `agreement.csv` hold the "
        "printed tables, with units in their headings; each has a LaTeX file beside it.\n"
    )
    yield "### cases.csv\n\nA row per model, case and rater.\n"
    yield columns(descriptions.CASES)
    yield (
        "### slices.csv\n\nA row per model, case, rater and slice; distances of contours are those of outlines in the "
        "plane of the slice.\n"
    )
    yield columns(descriptions.SLICES)
    yield "### summary.json\n\nThe numbers of all tables with full precision.\n"
    yield keys(descriptions.SUMMARY_JSON)
    yield "## calibrate\n\nThe threshold is written into the card of the weights.\n"
    yield "### calibration.csv\n\nA row per threshold.\n"
    yield columns(descriptions.CALIBRATION)


def _train() -> Iterable[str]:
    from keras_scgm.adaptation.record import AdaptationRecord
    from keras_scgm.training.folds import FoldScore, SubjectScore
    from keras_scgm.tuning import Trial
    from keras_scgm.tuning.kept_search import KeptSearch

    yield "## train\n"
    yield "### log.csv\n\nA row per epoch.\n"
    yield columns(descriptions.LOG)
    yield "### folds.csv\n\nA row per fold of a cross-validation.\n"
    yield columns(described_fields(FoldScore))
    yield "### subjects.csv\n\nA row per subject that a fold held out.\n"
    yield columns(described_fields(SubjectScore))
    yield "## tune\n"
    yield "### trials.csv\n\nA row per trial, followed by a column for each value that is searched.\n"
    trial = described_fields(Trial)
    del trial["values"]
    yield columns(trial)
    yield "### search.json\n\nWhat the search is of; with the same, the command goes on with it.\n"
    yield keys(described_fields(KeptSearch))
    yield "## adapt\n"
    yield "### adaptation.json\n\nWhat the adaptation is of, by which `--resume` knows it.\n"
    yield keys(described_fields(AdaptationRecord))
    yield "### changes.csv\n\nA row per slice of the scans that were held back.\n"
    yield columns(descriptions.CHANGES)
    yield "### guard.json\n\nWhat the guard measured.\n"
    yield keys(descriptions.JUDGEMENT)
    yield "### suggested.csv\n\nA row per slice to label, written with `--suggest`.\n"
    yield columns(descriptions.SUGGESTED)


def _cards() -> Iterable[str]:
    from keras_scgm.pretrained import EnsembleCard, WeightsCard
    from keras_scgm.slices import SliceConfig

    yield "## Cards of weights\n"
    yield settings(WeightsCard, "NAME.json, beside NAME.weights.h5")
    yield settings(SliceConfig, "The key `slices` of cards")
    yield settings(EnsembleCard, "ensemble.json")


def _settings() -> Iterable[str]:
    from keras_scgm.adaptation import AdaptationConfig, GuardConfig
    from keras_scgm.augmentation import AugmentationConfig
    from keras_scgm.training import DataConfig, TrainingConfig
    from keras_scgm.tuning import SearchConfig, TuningConfig

    yield "## Settings\n\nFields of settings files and of the classes in Python; what is left out has its default.\n"
    for kind, title in (
        (TrainingConfig, "spec.json of a training, `train --spec`: TrainingConfig"),
        (AdaptationConfig, "`adapt --spec`: AdaptationConfig"),
        (
            AugmentationConfig,
            "The key `augmentation` of both, `augment-preview --augmentation`: AugmentationConfig",
        ),
        (DataConfig, "data.json of a training: DataConfig"),
        (GuardConfig, "`adapt --guard`: GuardConfig"),
        (SearchConfig, "Every search: SearchConfig"),
        (TuningConfig, "`tune --ranges`: TuningConfig"),
    ):
        yield settings(kind, title)


def _areas(kind: type, *derived: str) -> str:
    """Columns of a table of areas, in its order; measurements are described as in the tables of a study."""
    from keras_scgm.morphometry import TISSUE_COLUMNS
    from keras_scgm.study.columns import MEASUREMENTS

    texts = described_fields(kind)
    names = (*(name for name in texts if name not in TISSUE_COLUMNS), *derived, *TISSUE_COLUMNS)
    shared = _measurements(MEASUREMENTS)
    return columns({name: shared.get(name, texts.get(name, "")) for name in names})


def _measurements(names: Iterable[str]) -> dict[str, str]:
    """What the tables of a study say of columns, without that of the summary alone."""
    from keras_scgm.study.columns import describe

    return {
        name: entry["Description"].partition("; in the summary")[0] for name, entry in describe(names).items()
    }


def columns(texts: Mapping[str, str]) -> str:
    """A table of columns with their units, which the ends of their names tell.

    >>> print(columns({"area_mm2": "Area <= 1"}))
    | Column | Meaning | Unit |
    |---|---|---|
    | `area_mm2` | Area &lt;= 1 | mm² |
    <BLANKLINE>
    """
    rows = [(f"`{name}`", cell(text), unit_of(name)) for name, text in texts.items()]
    return table(("Column", "Meaning", "Unit"), rows) + "\n"


def keys(texts: Mapping[str, str]) -> str:
    """A table of keys with their units, which end their texts."""
    rows = []
    for name, text in texts.items():
        found = _UNIT_IN_TEXT.search(text)
        rows.append((f"`{name}`", cell(_UNIT_IN_TEXT.sub("", text)), found[1] if found else ""))
    return table(("Key", "Meaning", "Unit"), rows) + "\n"


def settings(kind: type, title: str) -> str:
    """A section on the fields of settings, with their defaults."""
    texts = described_fields(kind)
    rows = [
        (f"`{field.name}`", cell(texts[field.name]), unit_of(field.name), cell(default_of(field)))
        for field in dataclasses.fields(kind)
    ]
    return f"### {title}\n\n" + table(("Key", "Meaning", "Unit", "Default"), rows) + "\n"


def _unit(units: str) -> str:
    return units.replace("mm^2", "mm²").replace("degree", "°").replace("arbitrary", "that of the image")

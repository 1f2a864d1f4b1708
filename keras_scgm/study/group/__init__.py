"""Statistics and figures of the group, from the `summary.tsv` of a study; needs the packages of the extra `study`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from keras_scgm import checks
from keras_scgm.errors import InputError

NEEDED = ("pandas", "pingouin", "statsmodels", "tabulate")


def analyse(
    output: str | Path,
    exclude: str | Path | None = None,
    report: Callable[[str], None] = lambda warning: None,
    doubts: Sequence[str] = (),
) -> list[Path]:
    """Write tables, figures and a text of the group into the folder `group` of a study's results.

    Area by level with the spread of the cohort, outliers within scanner and level, differences between the sessions
    of each participant, test-retest reliability where runs repeat an image, and sites and vendors where they are
    known. Each table is TSV with a data dictionary; `group.md` has the results in words, with the figures.

    Args:
        output: Folder of the derivatives, with `summary.tsv`.
        exclude: Marks of a quality page, `qc.yml` or TSV; images marked fail or artefact are left out.
        report: Called with each reason why the results may be wrong, one line; `group.md` has them, too.
        doubts: Further reasons that are known already.

    Returns:
        The files, in `output/group`; files of an earlier analysis are replaced or removed.

    Raises:
        InputError: A package of the extra is missing, the summary or the marks cannot be used, or the folder cannot be
            written to; it is unchanged.
    """
    output = checks.path("output", output)
    marks: Path | None = checks.optional(checks.path)("exclude", exclude)
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f"group statistics need {', '.join(missing)}; pip install 'keras-scgm[study]'")
    from keras_scgm.study.group.analysis import write_group

    return write_group(output, marks, report, doubts)

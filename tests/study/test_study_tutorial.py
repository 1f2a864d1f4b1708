"""The tutorial of a study: every command of it, in its order."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

TUTORIAL = Path(__file__).parents[2] / "docs/tutorials/study.md"
EXCLUDED = "sub-02/ses-1/anat/sub-02_ses-1_T2starw.nii.gz"


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str]]:
    """Language and text of the blocks of code."""
    return re.findall(
        r"^```(\w*)\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_from_a_bids_folder_to_a_figure_without_the_excluded_image(run, blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups = []
    for language, text in blocks:
        if language == "yaml":
            Path("qc.yml").write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "keras-scgm"
            code, _, errors = run(*arguments)
            assert code == 0, errors
            if "group" in arguments:
                groups.append(pd.read_csv("results/group/by_level.tsv", sep="\t", keep_default_na=False))
    assert all(Path(name).is_file() for name in ("results/quality.html", "results/group/by_level.png"))
    summary = pd.read_csv("results/summary.tsv", sep="\t", dtype={"region": str})
    assert set(summary["region"]) == {"all", "2", "3", "4", "5", "6", "7"}
    assert set(summary["status"]) == {"segmented"}
    assert EXCLUDED in Path("results/group/group.md").read_text()
    # The excluded image was all that its participant had in one of two sessions.
    for table, rows in zip(groups, (summary, summary[summary["image"] != EXCLUDED]), strict=True):
        column = "gm_perpendicular_mm2"
        per_participant = rows[rows["region"] == "3"].groupby("participant_id")[column].mean()
        row = table[(table["region"] == "3") & (table["measure"] == column)].iloc[0]
        assert row["n_participants"] == 4
        assert row["mean"] == pytest.approx(per_participant.mean())
    assert groups[0]["mean"].tolist() != groups[1]["mean"].tolist()

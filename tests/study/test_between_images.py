"""Warnings that only the images of a study together give."""

import json

import pytest

from keras_scgm.study.between_images import warn_of_others

SPACING = "0.5 x 0.5 x 5"


def warnings(folder, *images):
    """Those of images (name, contrast, voxel spacing, hash), by name."""
    rows = []
    for name, contrast, spacing, digest in images:
        mask = f"{name}_label-GM_mask.nii.gz"
        (folder / f"{name}_label-GM_mask.json").write_text(json.dumps({"input_sha256": digest}))
        rows.append({"image": f"{name}.nii.gz", "region": "all", "status": "segmented", "mask": mask})
        rows[-1] |= {"contrast": contrast, "spacing_mm": spacing, "warnings": "n/a"}
    rows += [{**row, "region": level} for row in rows for level in ("3", "4")] + [
        {"image": "failed", "region": "all", "status": "failed", "warnings": "n/a"}
    ]
    warn_of_others(rows, folder)
    assert rows[-1]["warnings"] == "n/a"
    assert [row["warnings"] for row in rows if row["region"] == "3"] == [
        row["warnings"] for row in rows[:-1] if row["region"] == "all"
    ]
    whole = [row for row in rows[:-1] if row["region"] == "all"]
    return {row["image"].removesuffix(".nii.gz"): row["warnings"] for row in whole}


def test_images_of_one_kind_have_none(tmp_path):
    images = [(f"sub-{number}", "12.5", SPACING, f"{number}") for number in range(4)]
    assert set(warnings(tmp_path, *images).values()) == {"n/a"}


def test_another_voxel_spacing(tmp_path):
    found = warnings(
        tmp_path, ("a", "1", SPACING, "1"), ("b", "1", "0.4 x 0.4 x 4", "2"), ("c", "1", SPACING, "3")
    )
    assert found["b"] == f"voxels of 0.4 x 0.4 x 4 mm, others have {SPACING} mm"
    assert found["a"] == found["c"] == "n/a"


@pytest.mark.parametrize(("sign", "text"), [(1, "is darker than"), (-1, "is brighter than")])
def test_another_contrast(tmp_path, sign, text):
    for unit in (1, 1e-3):
        values = [("a", 10), ("b", -3), ("c", 12)]
        images = [(name, str(unit * sign * value), SPACING, name) for name, value in values]
        found = warnings(tmp_path, *images)
        assert text in found["b"]
        assert found["a"] == found["c"] == "n/a"


def test_one_file_under_two_names(tmp_path):
    found = warnings(tmp_path, ("a", "1", SPACING, "x"), ("b", "1", SPACING, "y"), ("c", "n/a", SPACING, "x"))
    assert found == {"a": "the same file as c.nii.gz", "b": "n/a", "c": "the same file as a.nii.gz"}


def test_echoes_of_one_image(tmp_path):
    names = ("sub-1_echo-1_T2starw", "sub-1_echo-2_T2starw", "sub-2_echo-1_T2starw", "sub-3_T2starw")
    found = warnings(tmp_path, *[(name, "1", SPACING, name) for name in names])
    assert ["one of 2 echoes" in found[name] for name in names] == [True, True, False, False]

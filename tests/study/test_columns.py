"""The data dictionary of the tables."""

from keras_scgm.morphometry import TISSUE_COLUMNS
from keras_scgm.study.columns import AREA_COLUMNS, SUMMARY_COLUMNS, WITH_SD, describe

UNITS = {"mm2": "mm^2", "mm": "mm", "deg": "degree", "t": "tesla"}


def test_every_column_has_a_name_a_description_and_the_unit_of_its_name():
    described = describe([*AREA_COLUMNS, *SUMMARY_COLUMNS])
    for column, entry in described.items():
        assert entry["LongName"], column
        assert "participants" not in entry["Description"] or column == "participant_id"
        unit = column.removesuffix("_sd").rpartition("_")[2]
        assert entry.get("Units") == UNITS.get(unit, "arbitrary" if column in ("contrast", "noise") else None)
    assert set(TISSUE_COLUMNS) < set(AREA_COLUMNS) & set(SUMMARY_COLUMNS)


def test_every_area_has_its_standard_deviation():
    areas = {name for name in AREA_COLUMNS if name.endswith("_mm2")} - {"area_sd_mm2"}
    assert areas <= set(WITH_SD)
    assert {f"{name}_sd" for name in WITH_SD} <= set(SUMMARY_COLUMNS)


def test_columns_of_participants_keep_their_description():
    assert describe(["age"], {"age": {"Units": "year"}}) == {"age": {"Units": "year"}}

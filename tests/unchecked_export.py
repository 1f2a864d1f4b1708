"""Exports without their own comparison with `segment`, for tests that compare more strictly or something else."""

from pathlib import Path
from typing import Any
from unittest import mock

from keras_scgm.export import saved_model


def export_unchecked(weights: Any, folder: Path, **options: Any) -> saved_model.ExportedModels:
    """`export_saved_model`, in half of its time."""
    with mock.patch.object(saved_model, "_dsc_with_segment", return_value=1.0):
        return saved_model.export_saved_model(weights, folder, **options)

"""`keras-scgm export`."""

from typer.testing import CliRunner

from keras_scgm import InputError
from keras_scgm.export import formats, saved_model
from keras_scgm_cli.main import app


def test_the_command(tmp_path, monkeypatch, two_networks):
    calls = []

    def exported(*arguments, **options):
        calls.append((arguments, options))
        return two_networks[1].models

    monkeypatch.setattr(saved_model, "export_saved_model", exported)
    monkeypatch.setattr(formats, "export_network", lambda *arguments: arguments)
    run = CliRunner().invoke
    folder = str(tmp_path)
    result = run(app, ["export", folder, "-w", "a", "-w", "b", "--threshold", "0.4", "--window", "center"])
    assert result.exit_code == 0
    assert calls == [((["a", "b"], tmp_path), {"threshold": 0.4, "window": "center", "precision": "float32"})]
    assert "gm_nifti/1: DSC 1.0000 with keras-scgm segment" in result.output
    assert "'synthetic'" in run(app, ["export", folder, "--format", "onnx"]).output
    for options in (["--threshold", "0.4"], ["-w", "a", "-w", "b"]):
        result = run(app, ["export", folder, "--format", "onnx", *options])
        assert isinstance(result.exception, InputError)

"""The package is imported in one way: names come when they are asked for, Keras objects with Keras."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_scgm

PACKAGE = Path(keras_scgm.__file__).parent


def fresh(code):
    """What a new process prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def registered_classes():
    """Names of all classes in the package that a decorator registers with Keras."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                "register_keras_serializable" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                yield node.name


def test_importing_the_package_does_not_import_keras():
    code = (
        "import sys, json, keras_scgm, keras_scgm.cohort;"
        "print(json.dumps([name for name in ('keras', 'tensorflow', 'matplotlib') if name in sys.modules]))"
    )
    assert fresh(code) == []


@pytest.mark.parametrize("first", ["", "import keras_scgm_cli.main; "])
def test_names_do_not_depend_on_what_was_imported_before(first):
    listed, public, values, modules = fresh(
        f"{first}import json, keras_scgm\nlisted = dir(keras_scgm)\nfrom keras_scgm import *\n"
        "values = [getattr(keras_scgm, name).__name__ for name in keras_scgm.__all__]\n"
        "modules = [keras_scgm.datasets.__name__, keras_scgm.losses.__name__]\n"
        "print(json.dumps([listed, keras_scgm.__all__, values, modules]))"
    )
    assert set(public) <= set(listed)
    assert {"segment", "evaluate", "DilatedGMNet", "DiceLoss", "export_saved_model"} <= set(public)
    assert values == public
    assert modules == ["keras_scgm.datasets", "keras_scgm.losses"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keras_scgm' has no attribute 'nothing'"):
        keras_scgm.nothing  # noqa: B018


@pytest.mark.parametrize(
    "imports",
    [
        "import keras_scgm, keras",
        "import keras, keras_scgm",
        "import keras_scgm_cli.main, keras_scgm.losses",
    ],
)
def test_every_keras_object_is_registered(imports):
    known = fresh(
        f"{imports}; import json, keras; print(json.dumps(sorted(keras.saving.get_custom_objects())))"
    )
    wanted = {f"keras_scgm>{name}" for name in registered_classes()}
    assert {"keras_scgm>DiceLoss", "keras_scgm>AugmentationLayer", "keras_scgm>HardDice"} <= wanted
    assert wanted <= set(known)


def test_a_saved_model_loads_after_a_bare_import(tmp_path):
    model = keras_scgm.DilatedGMNet(filters=2)
    model.compile("adam", keras_scgm.DiceCrossEntropyLoss(), metrics=[keras_scgm.SoftDice()])
    model.save(tmp_path / "model.keras")
    code = (
        "import json, keras_scgm, keras;"
        f"print(json.dumps(type(keras.saving.load_model({str(tmp_path / 'model.keras')!r}).loss).__name__))"
    )
    assert fresh(code) == "DiceCrossEntropyLoss"
    assert keras.saving.get_registered_object("keras_scgm>DiceLoss") is keras_scgm.DiceLoss

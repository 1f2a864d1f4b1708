"""The package is imported in one way: names come when they are asked for, Keras objects with Keras."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
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


def wanted_objects():
    wanted = {f"keras_scgm>{name}" for name in registered_classes()}
    assert {"keras_scgm>DiceLoss", "keras_scgm>AugmentationLayer", "keras_scgm>HardDice"} <= wanted
    return wanted


@pytest.mark.parametrize("first", ["", "import keras; ", "import keras_scgm_cli.main, keras_scgm.losses; "])
def test_names_and_keras_objects_do_not_depend_on_what_was_imported_before(first):
    listed, known, public, values, modules = fresh(
        f"{first}import json, sys, keras_scgm\nlisted = dir(keras_scgm)\n"
        "keras = sys.modules.get('keras')\n"
        "known = keras and sorted(keras.saving.get_custom_objects())\n"
        "from keras_scgm import *\n"
        "values = [getattr(keras_scgm, name).__name__ for name in keras_scgm.__all__ if name[0] != '_']\n"
        "modules = [keras_scgm.datasets.__name__, keras_scgm.losses.__name__]\n"
        "print(json.dumps([listed, known, keras_scgm.__all__, values, modules]))"
    )
    assert set(public) <= set(listed)
    assert {"segment", "evaluate", "DilatedGMNet", "DiceLoss", "export_saved_model"} <= set(public)
    assert sorted(["__version__", *values]) == public
    assert modules == ["keras_scgm.datasets", "keras_scgm.losses"]
    assert (known is None) == (first == "")
    if first:
        assert wanted_objects() <= set(known)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keras_scgm' has no attribute 'nothing'"):
        keras_scgm.nothing  # noqa: B018


REGISTERED = {
    "AugmentationLayer": {
        "config": keras_scgm.AugmentationConfig(rotation_degrees=5.0, flip_left_right=0.5),
        "seed": 7,
        "name": "changes",
        "dtype": "mixed_bfloat16",
        "trainable": False,
    },
    "DiceCrossEntropyLoss": {
        "dice_weight": 0.5,
        "cross_entropy_weight": 2.0,
        "epsilon": 3.0,
        "per_sample": True,
        "classifier_activation": "sigmoid",
        "from_logits": True,
        "include_background": True,
        "reduction": "sum",
        "name": "mixed",
        "dtype": "float64",
    },
    "DiceLoss": {
        "epsilon": 2.0,
        "per_sample": True,
        "classifier_activation": "sigmoid",
        "from_logits": True,
        "include_background": True,
        "reduction": "sum",
        "name": "dice",
        "dtype": "float64",
    },
    "HardDice": {
        "threshold": 0.25,
        "class_id": 0,
        "classifier_activation": "sigmoid",
        "from_logits": True,
        "include_background": True,
        "name": "hard",
        "dtype": "float64",
    },
    "SoftDice": {
        "class_id": 0,
        "classifier_activation": "sigmoid",
        "from_logits": True,
        "include_background": True,
        "name": "soft",
        "dtype": "float64",
    },
}
"""Arguments other than the defaults, of every class that is registered."""


def test_every_registered_class_is_listed():
    assert sorted(REGISTERED) == sorted(registered_classes())


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_objects_come_back_with_all_their_arguments(name):
    kind, arguments = getattr(keras_scgm, name), REGISTERED[name]
    original = kind(**arguments)
    config = original.get_config()
    assert set(arguments) <= set(config)
    for argument in set(arguments) - {"config", "dtype"}:
        assert config[argument] == arguments[argument], argument
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    assert serialized["registered_name"] == f"keras_scgm>{name}"
    assert keras.saving.get_registered_object(f"keras_scgm>{name}") is kind
    copy = keras.saving.deserialize_keras_object(serialized)
    assert type(copy) is kind
    assert copy.get_config() == config
    if isinstance(original, keras.Layer):
        assert (copy.config, copy.dtype_policy.name) == (arguments["config"], arguments["dtype"])
    else:
        assert copy.dtype == arguments["dtype"]
    assert kind.from_config(config).get_config() == config
    # The name is optional, as in Keras.
    unnamed = kind(**{**arguments, "name": None})
    assert unnamed.name.startswith(re.sub("(?<!^)(?=[A-Z])", "_", name).lower())


def test_every_registered_object_loads_after_a_bare_import(tmp_path):
    objects = {name: getattr(keras_scgm, name)(**arguments) for name, arguments in REGISTERED.items()}
    inputs = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    model = keras.Model(inputs, objects["AugmentationLayer"](inputs))
    model.compile(
        loss=[objects["DiceLoss"], objects["DiceCrossEntropyLoss"]],
        metrics=[[objects["SoftDice"]], [objects["HardDice"]]],
    )
    images = np.ones((2, 8, 8, 1), np.float32)
    expected = model.evaluate([images, images], [images, images], verbose=0)
    model.save(tmp_path / "model.keras")
    known, values, configurations = fresh(
        "import keras_scgm\nimport json, keras, numpy\n"
        "known = sorted(keras.saving.get_custom_objects())\n"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
        "images = numpy.ones((2, 8, 8, 1), 'float32')\n"
        "values = model.evaluate([images, images], [images, images], verbose=0)\n"
        "objects = [model.layers[-1], *model.loss, *model._compile_metrics.metrics]\n"
        "print(json.dumps([known, values, {type(one).__name__: one.get_config() for one in objects}]))"
    )
    assert wanted_objects() <= set(known)
    assert values == pytest.approx(expected)
    assert configurations == json.loads(json.dumps({name: one.get_config() for name, one in objects.items()}))


def test_the_version_is_that_of_the_installed_package():
    assert fresh("import json, keras_scgm; print(json.dumps(keras_scgm.__version__))") == version(
        "keras_scgm"
    )
    code = "import json, keras_scgm; print(json.dumps(keras_scgm.list_weights()))"
    assert fresh(code) == keras_scgm.list_weights()
    assert [
        keras_scgm.weights_card(name).name for name in keras_scgm.list_weights()
    ] == keras_scgm.list_weights()


def test_names_for_type_checkers_are_those_of_the_package():
    """What an editor completes is what there is."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imported = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy_modules = {*keras_scgm._PACKAGES, *keras_scgm._MODULE_OF.values()} - {"export.saved_model"}
    assert {name for name, module in imported.items() if module == "keras_scgm"} == lazy_modules
    assert {*imported, "__version__"} - lazy_modules == set(keras_scgm.__all__)
    for name, module in imported.items():
        assert getattr(keras_scgm, name) is getattr(import_module(module), name)


def test_type_checkers_see_no_getattr():
    """With it they would accept every name."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert "__getattr__" not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_extras_in_messages_are_quoted():
    """Zsh takes brackets for a pattern."""
    sources = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "keras_scgm_cli").rglob("*.py")]
    found = re.findall(
        r"pip install (\S+\[)", "\n".join(path.read_text(encoding="utf-8") for path in sources)
    )
    assert len(found) > 5
    assert all(extra.startswith("'") for extra in found)

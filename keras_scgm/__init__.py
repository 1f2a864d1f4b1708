"""Spinal cord gray matter segmentation with deep dilated convolutions (Perone et al. 2018)."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from keras_scgm import adaptation as adaptation
    from keras_scgm import augmentation as augmentation
    from keras_scgm import callbacks as callbacks
    from keras_scgm import datasets as datasets
    from keras_scgm import errors as errors
    from keras_scgm import evaluation as evaluation
    from keras_scgm import export as export
    from keras_scgm import losses as losses
    from keras_scgm import metrics as metrics
    from keras_scgm import models as models
    from keras_scgm import pretrained as pretrained
    from keras_scgm import segmentation as segmentation
    from keras_scgm import training as training
    from keras_scgm.augmentation import AugmentationConfig as AugmentationConfig
    from keras_scgm.augmentation import AugmentationLayer as AugmentationLayer
    from keras_scgm.augmentation import augment as augment
    from keras_scgm.callbacks import PolyLearningRate as PolyLearningRate
    from keras_scgm.callbacks import TerminateOnCollapse as TerminateOnCollapse
    from keras_scgm.errors import InputError as InputError
    from keras_scgm.evaluation import evaluate as evaluate
    from keras_scgm.export.saved_model import export_saved_model as export_saved_model
    from keras_scgm.losses import DiceCrossEntropyLoss as DiceCrossEntropyLoss
    from keras_scgm.losses import DiceLoss as DiceLoss
    from keras_scgm.metrics import HardDice as HardDice
    from keras_scgm.metrics import SoftDice as SoftDice
    from keras_scgm.models import DilatedGMNet as DilatedGMNet
    from keras_scgm.models import DilatedGMNet3D as DilatedGMNet3D
    from keras_scgm.models import UNet as UNet
    from keras_scgm.models import binarize_predictions as binarize_predictions
    from keras_scgm.models import load_model as load_model
    from keras_scgm.models import preprocess_input as preprocess_input
    from keras_scgm.pretrained import list_weights as list_weights
    from keras_scgm.pretrained import weights_card as weights_card
    from keras_scgm.segmentation import Segmentation as Segmentation
    from keras_scgm.segmentation import SegmentationConfig as SegmentationConfig
    from keras_scgm.segmentation import Segmenter as Segmenter
    from keras_scgm.segmentation import segment as segment

    __version__: str

_MODULE_OF = {
    "AugmentationLayer": "augmentation",
    "AugmentationConfig": "augmentation",
    "DiceCrossEntropyLoss": "losses",
    "DiceLoss": "losses",
    "DilatedGMNet": "models",
    "DilatedGMNet3D": "models",
    "HardDice": "metrics",
    "InputError": "errors",
    "PolyLearningRate": "callbacks",
    "Segmentation": "segmentation",
    "SegmentationConfig": "segmentation",
    "Segmenter": "segmentation",
    "SoftDice": "metrics",
    "TerminateOnCollapse": "callbacks",
    "UNet": "models",
    "augment": "augmentation",
    "binarize_predictions": "models",
    "evaluate": "evaluation",
    "export_saved_model": "export.saved_model",
    "list_weights": "pretrained",
    "load_model": "models",
    "preprocess_input": "models",
    "segment": "segmentation",
    "weights_card": "pretrained",
}
_PACKAGES = ("adaptation", "augmentation", "datasets", "evaluation", "export", "models", "training")

__all__ = sorted({"__version__", *_MODULE_OF})


if not TYPE_CHECKING:
    # Type checkers would take it as a promise of every name.

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for: Keras, which most of them need, takes seconds."""
        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        elif name in _PACKAGES or name in _MODULE_OF.values():
            value = import_module(f"{__name__}.{name}")
        elif name == "__version__":
            value = version(__name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_keras_objects(_: Any) -> None:
    """Import every module that registers an object of a saved model."""
    for name in ("augmentation", "losses", "metrics"):
        import_module(f"{__name__}.{name}")


# A model that holds our objects loads after a bare `import keras_scgm`, whether Keras is imported before or after.
register_post_import_hook(_register_keras_objects, "keras")

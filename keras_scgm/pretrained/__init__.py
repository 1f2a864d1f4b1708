"""Weights by name or path: their cards, their files, and the layers in them."""

from keras_scgm.pretrained.card import (
    BRIGHT,
    CONTRASTS,
    CORD,
    DARK,
    GRAY_MATTER,
    TISSUES,
    WEIGHTS_SUFFIXES,
    WeightsCard,
    card_path,
    known_tissues,
    tissues_of_outputs,
    weights_stem,
)
from keras_scgm.pretrained.catalog import (
    DEFAULT_WEIGHTS,
    cache_folder,
    find_card,
    list_weights,
    weights_card,
    weights_folder,
    weights_status,
)
from keras_scgm.pretrained.ensemble import EnsembleCard, ensemble_members
from keras_scgm.pretrained.files import classes_of, resolve_weights, weights_for
from keras_scgm.pretrained.layers import (
    INFLATED_FROM,
    dilation_rates_of,
    load_weights_into,
    read_layers,
)
from keras_scgm.pretrained.model_card import model_card

__all__ = [
    "BRIGHT",
    "CONTRASTS",
    "CORD",
    "DARK",
    "DEFAULT_WEIGHTS",
    "GRAY_MATTER",
    "INFLATED_FROM",
    "TISSUES",
    "WEIGHTS_SUFFIXES",
    "EnsembleCard",
    "WeightsCard",
    "cache_folder",
    "card_path",
    "classes_of",
    "dilation_rates_of",
    "ensemble_members",
    "find_card",
    "known_tissues",
    "list_weights",
    "load_weights_into",
    "model_card",
    "read_layers",
    "resolve_weights",
    "tissues_of_outputs",
    "weights_card",
    "weights_folder",
    "weights_for",
    "weights_status",
    "weights_stem",
]

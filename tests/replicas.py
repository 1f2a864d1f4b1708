"""Ten training steps on two virtual devices of one processor, and the same on one; run by `test_training_devices`.

For the losses in Keras' own network, and for the network of a training, the last line has the largest difference of any
weight after the steps, of the loss or the Dice of any epoch, and the largest change of a weight, as JSON.
"""

import json
from contextlib import nullcontext

import keras
import numpy as np
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

from keras_scgm.losses import DiceCrossEntropyLoss, DiceLoss  # noqa: E402
from keras_scgm.metrics import SoftDice  # noqa: E402
from keras_scgm.models import DilatedGMNet  # noqa: E402
from keras_scgm.training import TrainingConfig, all_devices  # noqa: E402
from keras_scgm.training.network import training_copy  # noqa: E402

SIZE, BATCH = 12, 8


def plain_network(classes):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            keras.layers.Conv2D(2, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(classes, 1, activation="softmax" if classes > 1 else "sigmoid"),
        ]
    )


def trained_network():
    return training_copy(DilatedGMNet(filters=2, dilation_rates=(6,), dropout=0.0), TrainingConfig())


def fit(build, loss, classes, scope, batch, rate, missing):
    """Weights before and after two epochs of five steps, and what Keras logged of the epochs."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5 * batch - missing, SIZE, SIZE, 1)).astype("float32")
    # As much foreground as the shares of the devices make unequal.
    labels = (images[..., 0] > rng.normal(size=(len(images), 1, 1))).astype(int)
    masks = np.eye(2)[labels] if classes > 1 else labels[..., None]
    keras.utils.set_random_seed(0)
    with scope:
        model = build()
        start = model.get_weights()
        metric = SoftDice(classifier_activation="softmax" if classes > 1 else None)
        model.compile(keras.optimizers.SGD(rate), loss, metrics=[metric])
        history = model.fit(
            tf.data.Dataset.from_tensor_slices((images, masks.astype("float32"))).batch(batch),
            epochs=2,
            shuffle=False,
            verbose=0,
        ).history
    return start, model.get_weights(), [history["loss"], history["soft_dice"]]


def difference(build, loss, classes, batch, rate=0.1, missing=0):
    start, one, logs = fit(build, loss, classes, nullcontext(), batch, rate, missing)
    _, several, shared = fit(build, loss, classes, STRATEGY.scope(), batch, rate, missing)

    def largest(weights):
        return max(float(np.abs(a - b).max()) for a, b in zip(one, weights, strict=True))

    return largest(several), float(np.abs(np.subtract(logs, shared)).max()), largest(start)


# One strategy for all: TensorFlow mistakes the collective operations of a second one for those of the first.
with all_devices():
    STRATEGY = tf.distribute.get_strategy()
# In a last batch that lacks an image the shares of the devices are unequal.
FOUND = {
    "dice": difference(lambda: plain_network(1), DiceLoss(), 1, BATCH, missing=1),
    "softmax": difference(
        lambda: plain_network(2), DiceCrossEntropyLoss(classifier_activation="softmax"), 2, BATCH, missing=1
    ),
    "per sample": difference(lambda: plain_network(1), DiceCrossEntropyLoss(per_sample=True), 1, BATCH),
    "training": difference(trained_network, DiceCrossEntropyLoss(), 1, BATCH, rate=0.02),
}
print(json.dumps(FOUND))

"""DSC of networks on unseen drawn slices, of the training's domain and of a harder one, without volumes or cord search.

    python benchmarks/drawn_slices.py --weights synthetic synthetic_unet

DSC over all voxels of the drawn 0.25 mm windows of 200 x 200, cut at 0.5, each window normalised by itself. "harder"
has less contrast to noise, and cords that are turned and off the centre.
"""

import argparse
from collections.abc import Sequence

from drawn_shapes import predict

from keras_scgm.datasets.phantom import DomainConfig, draw_slices
from keras_scgm.dice import dice
from keras_scgm.prediction import Ensemble

DOMAINS = {
    "default": DomainConfig(),
    "harder": DomainConfig(contrast_to_noise=(1.3, 6.0), rotation_deg=30.0, off_centre_mm=15.0),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--seed", type=int, default=991)
    options = parser.parse_args(arguments)

    networks = {name: Ensemble(name) for name in options.weights}
    print(f"{'':<10}" + "".join(f"{name:>18}" for name in networks))
    for domain, config in DOMAINS.items():
        images, masks, _ = draw_slices(options.slices, options.seed, config=config)
        images -= images.mean(axis=(1, 2), keepdims=True)
        images /= images.std(axis=(1, 2), keepdims=True)
        truth, scores = masks > 0.5, []
        for network in networks.values():
            scores.append(dice(predict(network, images)[..., 0] > 0.5, truth))
        print(f"{domain:<10}" + "".join(f"{score:18.4f}" for score in scores))


if __name__ == "__main__":
    main()

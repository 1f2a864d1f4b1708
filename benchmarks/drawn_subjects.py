"""DSC of networks on whole drawn subjects of the challenge's four sites, against the truth and the raters.

    python benchmarks/drawn_subjects.py --weights run/best.weights.h5 synthetic

DSC of the volume on its own grid with default settings, mean over the subjects: with the drawn truth, with the majority
of four drawn raters (three at least) and with each rater. The last line is what the raters reach themselves.
"""

import argparse
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from keras_scgm.datasets.phantom import SITES, draw_subject
from keras_scgm.datasets.raters import majority
from keras_scgm.dice import dice
from keras_scgm.segmentation import SegmentationConfig, Segmenter


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument("--subjects", type=int, default=2, help="of each site")
    parser.add_argument("--seed", type=int, default=40)
    options = parser.parse_args(arguments)

    networks = {
        name: Segmenter(name, SegmentationConfig(keep_probabilities=False)) for name in options.weights
    }
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in [*networks, "raters"]}
    for site, config in SITES.items():
        for number in range(options.subjects):
            seed = int(np.random.SeedSequence((options.seed, site, number)).generate_state(1)[0])
            subject = draw_subject(config, seed)
            truth = np.asarray(subject.mask.dataobj) > 0
            raters = [np.asarray(mask.dataobj) == 1 for mask in subject.raters(4)]
            most = majority(np.stack(raters))
            for name, segmenter in networks.items():
                found = np.asarray(segmenter.segment(subject.image).mask.dataobj) > 0
                each = np.mean([dice(found, rater) for rater in raters])
                scores[name].append((dice(found, truth), dice(found, most), float(each)))
            scores["raters"].append(
                (
                    float(np.mean([dice(rater, truth) for rater in raters])),
                    float(np.mean([dice(rater, most) for rater in raters])),
                    float(np.mean([dice(*pair) for pair in combinations(raters, 2)])),
                )
            )
    print(f"{'DSC with':<40}{'truth':>10}{'majority':>10}{'each rater':>12}")
    for name, rows in scores.items():
        print(f"{name:<40}" + "{:10.4f}{:10.4f}{:12.4f}".format(*np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()

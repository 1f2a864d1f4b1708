"""The figures and tables of the paper with this program's images and numbers.

You want to see what the program makes of the paper's figures, or to make them of your own volumes. Without data all is
made of synthetic subjects: the challenge's four sites with four raters each, and a cord ex vivo.

    python examples/paper_figures.py --output figures/

writes figure1.png to figure8.png and prints Tables 2 and 3 as Markdown, beside the paper's values. Folders of real
volumes, NAME.nii.gz, and of their gray matter, NAME_gm.nii.gz, add columns to Table 2 and boxes to Figure 6:

    python examples/paper_figures.py --output figures/ --volumes images/ masks/ --weights synthetic --weights challenge
"""

import argparse
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from keras_scgm import DilatedGMNet, InputError, Segmenter, evaluate, load_model
from keras_scgm.datasets import phantom
from keras_scgm.datasets.phantom.exvivo import LENGTH_MM
from keras_scgm.datasets.raters import majority
from keras_scgm.evaluation import CHALLENGE_METRICS, Evaluation, published, table2, table3
from keras_scgm.evaluation.challenge import LOWER_IS_BETTER
from keras_scgm.evaluation.table import with_unit
from keras_scgm.files import nifti_files, replaced
from keras_scgm.nifti import read_volume
from keras_scgm.picture.section import CONTOUR
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows
from keras_scgm.views import brightness_range

DPI, COLOURS = 100, 64
LINE, PUBLISHED, OURS = "#555555", "#8a94a0", ("#c2410c", "#1d4ed8", "#15803d")
CROP_MM = 9.0
"""Half of the width of the pictures of a cord."""
Pair = tuple[float, float]
NETWORKS = {"U-Net": "synthetic_unet", "DilatedGMNet": "synthetic"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder of the pictures")
    parser.add_argument("--volumes", type=Path, nargs=2, help="folders of real images and their gray matter")
    parser.add_argument("--weights", action="append", help="of the real volumes: known name or file; repeat")
    parser.add_argument("--subjects", type=int, default=3, help="of each synthetic site")
    parser.add_argument("--quick", action="store_true", help="few and small slices, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, Path(temporary), options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, work: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    small = {"matrix_size": 72, "n_slices": 1} if options.quick else {}
    sites = {number: replace(config, **small) for number, config in phantom.SITES.items()}
    segmenter = Segmenter("synthetic")

    drawn, found = work / "challenge", work / "synthetic"
    images = phantom.write_challenge_dataset(
        drawn, 1 if options.quick else options.subjects, seed=5, sites=sites
    )
    for image in images:
        save_mask(segmenter, image, found)
    evaluations = {"synthetic, drawn": evaluate({"synthetic, drawn": found}, drawn)}
    for weights in options.weights or ["synthetic"] if options.volumes else ():
        name = f"{Path(weights).name}, real"
        evaluations[name] = evaluate_volumes(*options.volumes, weights, work / name)

    exvivo = exvivo_masks(work / "exvivo", options.quick)
    figures = (
        sites_figure(images),
        kernels_figure(),
        architecture_figure(DilatedGMNet()),
        pipeline_figure(images[0], found),
        results_figure(images, found),
        metrics_figure(evaluations),
        surface_figure(segmenter, options.quick),
        comparison_figure(work / "exvivo", exvivo),
    )
    for number, figure in enumerate(figures, start=1):
        save(figure, output / f"figure{number}.png")

    print(markdown_table2(evaluations))
    parameters = {name: n_parameters(weights) for name, weights in NETWORKS.items()}
    of_networks = evaluate(exvivo, work / "exvivo/truth.nii.gz", annotated_only=True, parameters=parameters)
    table = table3(of_networks, with_published=True)
    print(markdown(table.columns, table.rows))


def mask_path(image: Path, folder: Path) -> Path:
    """Where the mask of an image is, named as the command does."""
    return folder / image.name.replace(".nii", "_gmseg.nii")


def save_mask(segmenter: Segmenter, image: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(segmenter.segment(image).mask, path := mask_path(image, folder))
    return path


def evaluate_volumes(images: Path, masks: Path, weights: str, folder: Path) -> Evaluation:
    segmenter, paths = Segmenter(weights), nifti_files(images)
    if not paths:
        raise InputError(f"{images}: no .nii or .nii.gz file in it")
    for image in paths:
        save_mask(segmenter, image, folder)
    return evaluate({folder.name: folder}, masks)


def sites_figure(images: Sequence[Path]) -> Figure:
    firsts = one_of_each_site(images)
    figure = Figure((8, 4.2), layout="constrained")
    axes = figure.subplots(2, len(firsts))
    for (site, path), (above, below) in zip(firsts.items(), axes.T, strict=True):
        image, spacing_mm = middle_slice(path)
        gold = gold_standard(path)
        show(above, image, np.zeros_like(gold), spacing_mm)
        above.set_title(f"site {site}: {spacing_mm[0]:g} mm", fontsize=9)
        center, half = np.argwhere(gold).mean(axis=0), CROP_MM / np.array(spacing_mm)
        above.add_patch(Rectangle(center - half, *(2 * half), fill=False, edgecolor="#3ddc84"))
        show(below, image, gold, spacing_mm)
    return figure


def results_figure(images: Sequence[Path], found: Path) -> Figure:
    firsts = one_of_each_site(images)
    figure = Figure((8, 6.2), layout="constrained")
    axes = figure.subplots(3, len(firsts))
    for (site, path), column in zip(firsts.items(), axes.T, strict=True):
        image, spacing_mm = middle_slice(path)
        gold, mask = gold_standard(path), middle_slice(mask_path(path, found))[0]
        for axis, marked in zip(column, (None, gold, mask > 0), strict=True):
            show(axis, image, gold, spacing_mm, marked)
        column[0].set_title(f"site {site}", fontsize=9)
    for axis, text in zip(axes[:, 0], ("image", "majority of the raters", "synthetic"), strict=True):
        axis.set_ylabel(text, fontsize=9)
    return figure


def one_of_each_site(images: Sequence[Path]) -> dict[str, Path]:
    """The first subject of each site."""
    firsts: dict[str, Path] = {}
    for path in sorted(images):
        firsts.setdefault(path.name[4], path)
    return firsts


def middle_slice(path: Path) -> tuple[np.ndarray, Pair]:
    """The slice (right to left, posterior to anterior), and its pixel spacing in mm."""
    volume = read_volume(path)
    (image,), _ = volume.view_slices(volume.n_slices // 2, volume.n_slices // 2 + 1)
    return image, volume.in_plane_spacing_mm


def gold_standard(image: Path) -> np.ndarray:
    """Gray matter by the majority of the raters in the middle slice."""
    masks = image.parent.glob(image.name.replace("-image.nii.gz", "-mask-r*.nii.gz"))
    return majority(np.array([middle_slice(mask)[0] == 1 for mask in masks]))


def show(
    axis: Axes, image: np.ndarray, gold: np.ndarray, spacing_mm: Pair, marked: np.ndarray | None = None
) -> None:
    """The part of a slice around its gray matter, or all of it without any; anterior up, right on the left."""
    low, high = (0, 0), image.shape
    if gold.any():
        center, half = np.argwhere(gold).mean(axis=0), CROP_MM / np.array(spacing_mm)
        low, high = (np.clip(np.rint(center + side * half).astype(int), 0, image.shape) for side in (-1, 1))
    part = (slice(low[0], high[0]), slice(low[1], high[1]))
    darkest, brightest = brightness_range(image[part], gold[part], spacing_mm)
    axis.imshow(image.T, cmap="gray", origin="lower", vmin=darkest, vmax=brightest)
    if marked is not None:
        axis.contour(marked.T, [0.5], colors=[CONTOUR], linewidths=1.2)
    axis.set(xlim=(low[0] - 0.5, high[0] - 0.5), ylim=(low[1] - 0.5, high[1] - 0.5), xticks=[], yticks=[])
    axis.set_aspect(spacing_mm[1] / spacing_mm[0])


def kernels_figure() -> Figure:
    """Which pixels a dilated convolution of this package's network reads, from a layer itself."""
    figure = Figure((8, 2.9), layout="constrained")
    for axis, rate in zip(figure.subplots(1, 3), (1, 2, 3), strict=True):
        ones = {"kernel_initializer": "ones", "use_bias": False}
        layer = keras.layers.Conv2D(1, 3, padding="same", dilation_rate=rate, **ones)
        impulse = np.eye(81, dtype=np.float32)[40].reshape(1, 9, 9, 1)
        read = keras.ops.convert_to_numpy(layer(impulse))[0, :, :, 0]
        axis.imshow(1 + read, cmap="Blues", vmin=0.5, vmax=3)
        axis.set_title(f"r = {rate}, {layer.count_params()} parameters", fontsize=9)
        axis.set(xticks=np.arange(-0.5, 9), yticks=np.arange(-0.5, 9), xticklabels=[], yticklabels=[])
        axis.tick_params(length=0, grid_color="white")
        axis.grid()
    return figure


def architecture_figure(network: keras.Model) -> Figure:
    """The layers with parameters, as the network has them."""
    figure = Figure((8, 4.4), layout="constrained")
    axis = figure.subplots()
    first = [layer.name for layer in network.layers if re.fullmatch(r"branch1x1_1|rate\d\d?_1", layer.name)]
    branches = [(name, f"{name[:-1]}2") for name in first if name != "rate2_1"]
    rows = np.linspace(2.5, -2.5, len(branches) + 1)

    def box(name: str, x: float, y: float, colour: str) -> None:
        layer = network.get_layer(name)
        shape = {"boxstyle": "round,pad=0.03", "color": colour}
        axis.add_patch(FancyBboxPatch((x - 0.42, y - 0.34), 0.84, 0.68, **shape))
        if isinstance(layer, keras.layers.Conv2D):
            text = "{} x {}\nrate {}\n{}".format(*layer.kernel_size, layer.dilation_rate[0], layer.filters)
        else:
            text = "global\naverage" if "pooling" in name else "concatenate"
        axis.text(x, y, text, ha="center", va="center", fontsize=7 if text != "concatenate" else 6)

    def arrow(start: Pair, end: Pair) -> None:
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": LINE, "lw": 0.8})

    for x, name in enumerate(("conv2d_1", "conv2d_2", "rate2_1", "rate2_2")):
        box(name, 1.2 * x, 0, "#fde68a" if name.startswith("rate") else "#dbeafe")
        arrow((1.2 * x - 0.73, 0), (1.2 * x - 0.47, 0))
    for y, branch in zip(rows, branches, strict=False):
        box(branch[0], 5.2, y, "#fecaca")
        box(branch[1], 6.4, y, "#fecaca")
        arrow((4.07, 0), (4.73, y))
        arrow((5.67, y), (5.93, y))
        arrow((6.87, y), (7.53, 0))
    box("global_average_pooling2d_1", 5.8, rows[-1], "#ddd6fe")
    axis.plot((1.8, 1.8, 5.2), (0, rows[-1], rows[-1]), color=LINE, lw=0.8)
    arrow((5.1, rows[-1]), (5.33, rows[-1]))
    axis.plot((6.27, 8.0), (rows[-1], rows[-1]), color=LINE, lw=0.8)
    arrow((8.0, rows[-1]), (8.0, -0.39))
    for x, name in ((8.0, "concatenate_1"), (9.2, "amort"), (10.4, "predictions")):
        box(name, x, 0, "#e5e7eb" if name == "concatenate_1" else "#bbf7d0")
        arrow((x + 0.47, 0), (x + 0.73, 0))
    axis.text(-0.8, 0, "slice", ha="right", va="center", fontsize=8)
    axis.text(11.2, 0, "probability", ha="left", va="center", fontsize=8)
    axis.set(xlim=(-1.6, 12.6), ylim=(-3.0, 3.0))
    axis.axis("off")
    return figure


def pipeline_figure(image: Path, found: Path) -> Figure:
    """A slice after each step of a segmentation with the window in the middle of the field of view."""
    volume, middle = read_volume(image), read_volume(image).n_slices // 2
    geometry = SliceGeometry.centered(volume, SliceConfig())
    statistics = measure_intensities(volume, geometry)
    native = volume.view_slices(middle, middle + 1)[0]
    resampled = geometry.to_windows(native, middle)[0]
    window = read_windows(volume, geometry, statistics, middle, middle + 1)
    probability = keras.ops.convert_to_numpy(load_model("synthetic")(window, training=False))[0, :, :, 0]
    mask, _ = middle_slice(mask_path(image, found))
    figure = Figure((8, 2.6), layout="constrained")
    axes = figure.subplots(1, 5)
    shape = "{} x {}".format(*native.shape[1:])
    for axis, values, title, limits in (
        (axes[0], native[0], f"slice\n{shape}, {volume.in_plane_spacing_mm[0]:g} mm", (None, None)),
        (axes[1], resampled, "resampled\n{} x {}, {:g} mm".format(*resampled.shape, 0.25), (None, None)),
        (axes[2], window[0, :, :, 0], "mean 0, standard\ndeviation 1", (-3, 3)),
        (axes[3], probability, "probability of\ngray matter", (0, 1)),
        (axes[4], native[0], f"mask\n{shape}", (None, None)),
    ):
        shown = axis.imshow(values.T, cmap="gray", origin="lower", vmin=limits[0], vmax=limits[1])
        axis.set_title(title, fontsize=8)
        axis.set(xticks=[], yticks=[])
        if limits[1] is not None:
            below = axis.inset_axes((0.1, -0.12, 0.8, 0.06))
            figure.colorbar(shown, below, orientation="horizontal", ticks=limits).ax.tick_params(labelsize=7)
    axes[4].contour(mask.T > 0, [0.5], colors=[CONTOUR], linewidths=1)
    return figure


def metrics_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Mean and standard deviation of every published method, and all our pairs of case and rater."""
    theirs = published()["table2"]
    figure = Figure((9, 5.6), layout="constrained")
    for axis, metric in zip(figure.subplots(2, 5).flat, CHALLENGE_METRICS, strict=True):
        for place, (name, values) in enumerate(theirs.items()):
            colour = "black" if name == "Proposed" else PUBLISHED
            axis.errorbar(place, *values[metric], fmt="o", markersize=4, color=colour, capsize=2, lw=1)
        for place, (name, evaluation) in enumerate(evaluations.items(), start=len(theirs)):
            values = [score.challenge[metric] for score in evaluation.of_model(name)]
            colour = OURS[(place - len(theirs)) % len(OURS)]
            line = {"color": colour, "markeredgecolor": colour}
            parts = {f"{part}props": line for part in ("box", "whisker", "cap", "median")}
            axis.boxplot([list(filter(np.isfinite, values))], positions=[place], widths=0.6, sym=".", **parts)
        axis.set_xticks(range(place + 1), [*theirs, *evaluations], rotation=90, fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
        if metric in LOWER_IS_BETTER:
            axis.set_ylim(bottom=0)
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        axis.set_title(f"{with_unit(metric)}, {better} is better", fontsize=8)
    return figure


def markdown_table2(evaluations: Mapping[str, Evaluation]) -> str:
    tables = {name: dict(table2(one).rows) for name, one in evaluations.items()}
    rows = []
    for metric, cells in zip(CHALLENGE_METRICS, next(iter(tables.values())).items(), strict=True):
        others = {name: values[metric] for name, values in published()["table2"].items()}
        own = others.pop("Proposed")
        pick = min if metric in LOWER_IS_BETTER else max
        best = pick(others, key=lambda name: others[name][0])
        theirs = [f"{mean:.2f} ({std:.2f})" for mean, std in (own, others[best])]
        rows.append((cells[0], theirs[0], f"{theirs[1]} {best}", *(one[cells[0]] for one in tables.values())))
    return markdown(("", "paper: Proposed", "paper: best other method", *tables), rows)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def draw_cord(*grid: float, levels: Pair) -> phantom.PhantomSubject:
    """A cord without its surroundings, as `write_exvivo_dataset` draws it."""
    kind = {"contrast": "exvivo", "contrast_to_noise": (6.0, 12.0), "off_centre_mm": 1.0, "drift": 0.02}
    return phantom.draw_subject(phantom.PhantomConfig(*grid, levels=levels, tilt_deg=0.0, **kind), seed=0)


def surface_figure(segmenter: Segmenter, quick: bool) -> Figure:
    """Gray matter (orange) and cord of a lumbar region, as the network finds them."""
    cord = draw_cord(0.2, 1.0, 100, 3 if quick else 44, levels=(19.5, 17.5))
    result = segmenter.segment(cord.image)
    figure = Figure((8, 4))
    axis = figure.add_axes((-0.3, -0.75, 1.6, 2.5), projection="3d", proj_type="ortho")
    spacing_mm = (0.2, 0.2, 1.0)
    tissues = (result.mask_voxels, (0.95, 0.5, 0.1), 1.0), (result.cord_voxels, (0.6, 0.6, 0.65), 0.12)
    for voxels, colour, opacity in tissues:
        smooth = gaussian_filter(np.pad(np.asarray(voxels, np.float32), 2), (1.0, 1.0, 0.6))
        points, faces, *_ = marching_cubes(smooth, 0.5, spacing=spacing_mm, step_size=2)
        # The cord lies along the picture, its lower end on the left. Matplotlib's axes are right-handed: inferior to
        # superior, left to right, posterior to anterior.
        triangles = (points * (-1, 1, 1))[:, [2, 0, 1]][faces]
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        light = 0.45 + 0.55 * np.abs(normals @ (-0.29, -0.59, 0.73))
        shades = {"facecolors": light[:, None] * colour, "alpha": opacity, "linewidths": 0}
        axis.add_collection3d(Poly3DCollection(triangles, **shades))
    extent = np.multiply(result.mask_voxels.shape, spacing_mm)[[2, 0, 1]]
    middle = extent[1] / 2
    axis.set(xlim=(0, extent[0]), ylim=(-middle - 7, -middle + 7), zlim=(middle - 7, middle + 7))
    axis.set_box_aspect((extent[0], 14, 14))
    axis.view_init(elev=35, azim=-70)
    axis.axis("off")
    return figure


def exvivo_masks(folder: Path, quick: bool) -> dict[str, Path]:
    """Masks of both networks, trained on the same kind of drawings, of a cord drawn from L2 to C1."""
    n_slices, matrix_size = (3, 160) if quick else (48, 220)
    cord = draw_cord(0.1, min(LENGTH_MM / n_slices, 30), matrix_size, n_slices, levels=(21.0, 1.0))
    folder.mkdir()
    nib.save(cord.image, image := folder / "cord.nii.gz")
    nib.save(cord.mask, folder / "truth.nii.gz")
    return {name: save_mask(Segmenter(weights), image, folder / name) for name, weights in NETWORKS.items()}


def comparison_figure(folder: Path, masks: Mapping[str, Path]) -> Figure:
    volumes = [
        read_volume(path) for path in (folder / "cord.nii.gz", folder / "truth.nii.gz", *masks.values())
    ]
    regions = {"lumbosacral": 0.06, "thoracic": 0.5, "cervical": 0.85}
    figure = Figure((5.8, 7.4), layout="constrained")
    axes = figure.subplots(len(volumes), len(regions))
    for column, (region, part) in zip(axes.T, regions.items(), strict=True):
        index = round(part * (volumes[0].n_slices - 1))
        image, *marked = (volume.view_slices(index, index + 1)[0][0] for volume in volumes)
        for axis, mask in zip(column, (None, *marked), strict=True):
            contour = None if mask is None else mask > 0
            show(axis, image, marked[0] > 0, volumes[0].in_plane_spacing_mm, contour)
        column[0].set_title(region, fontsize=9)
    for axis, text in zip(axes[:, 0], ("image", "truth", *masks), strict=True):
        axis.set_ylabel(text, fontsize=9)
    return figure


def n_parameters(weights: str) -> int:
    """As the paper counts them: kernels and biases of the convolutions, without batch normalization."""
    layers = load_model(weights).layers
    return sum(layer.count_params() for layer in layers if isinstance(layer, keras.layers.Conv2D))


def save(figure: Figure, path: Path) -> None:
    """Write a figure in few colours, which keeps a gray picture small."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=DPI)
    picture = Image.open(raw).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    with replaced(path) as temporary:
        picture.save(temporary, format="png", optimize=True)


if __name__ == "__main__":
    main()

"""Figures as files."""

from matplotlib.figure import Figure
from PIL import Image

from keras_scgm.figures import write_figure


def test_a_dollar_sign_is_a_character_wherever_it_stands(tmp_path):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], label="a$_{")
    axes.set(title="b$_{_.nii$", xlabel="c$^$")
    axes.set_xticks([0, 1], ["site$\\d$", "$_{"])
    axes.annotate("$_{$", (0, 1))
    figure.legend()
    write_figure(tmp_path / "a.png", figure, dpi=50)
    assert (tmp_path / "a.png").exists()


def test_a_figure_is_a_png_of_the_same_bytes_whatever_its_name(tmp_path):
    for name in ("a.png", "b"):
        figure = Figure(figsize=(2, 1), facecolor="red")
        figure.subplots().plot([1, 2])
        write_figure(tmp_path / name, figure, dpi=50)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size, image.getpixel((0, 0))[:3]) == ("PNG", (100, 50), (255, 0, 0))
        assert "Software" not in image.info
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b"]

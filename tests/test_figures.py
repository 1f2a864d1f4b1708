"""Figures as files."""

from matplotlib.figure import Figure
from PIL import Image

from keras_scgm.figures import write_figure


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

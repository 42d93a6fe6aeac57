"""Makes a report: reads a run, and writes the page and its figures where they belong."""

from oneshot.base.storage import Folder
from oneshot.report.canvas import LIGHT, png, svg
from oneshot.report.html import FIGURES
from oneshot.report.page import page
from oneshot.report.reading import read

PAGE = "report.html"
NAMES = {  # the figures that a page may have
    "ladder", "losses", "learning-rates", "parallel", "curves", "alphabets", "trials", "errors", "confused", "maps",
    "verification",
}  # fmt: skip


def make(run: Folder, out: Folder | None = None) -> str:
    """Write the report of a run, over or not, into its folder or into `out`. Returns the path of the page.

    Raises UserError if there is no run, a file of it is damaged, or the report cannot be written."""
    text, figures = page(read(run))
    folder = out or run
    for name, canvas in figures.items():
        (folder / FIGURES).write(f"{name}.svg", svg(canvas, name=name, theme=LIGHT).encode())
        (folder / FIGURES).write(f"{name}.png", png(canvas))
    for file in (folder / FIGURES).names():
        name = file.removesuffix(".svg").removesuffix(".png")
        if name != file and name in NAMES - figures.keys():  # left by a network that was there before
            (folder / FIGURES).remove(file)
    folder.write(PAGE, text.encode())
    return folder.file(PAGE)

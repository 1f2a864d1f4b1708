"""Every page in headless Chromium at two widths: no error, no broken image, nothing wider than the window."""

import html
import json
import re

import pytest
from browser import browse
from served_site import SAY, served

WIDTHS = (390, 1280)

DRIVER = """<!doctype html><meta charset="utf-8"><title>driver</title><body><script>
SAY
const open = (page, width) => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800;
  frame.onload = async () => {
    const inner = frame.contentDocument, images = [...inner.images];
    for (const image of images) image.loading = "eager";
    await Promise.all(images.map(image => image.decode().catch(() => null)));
    const broken = images.filter(image => !image.naturalWidth).map(image => image.src);
    const overflow = inner.documentElement.scrollWidth - width;
    const found = {page, width, broken, overflow, title: inner.title, count: images.length};
    frame.remove();
    done(found);
  };
  frame.src = page;
  document.body.append(frame);
});
(async () => {
  const seen = [];
  for (const page of PAGES) for (const width of WIDTHS) seen.push(await open(page, width));
  await say(seen);
})();
</script>"""


@pytest.fixture(scope="module")
def site_server(site, tmp_path_factory):
    with served(site, tmp_path_factory.mktemp("served") / "site") as server:
        yield server


def test_all_pages_at_two_widths(site_server, tmp_path):
    folder = site_server.folder
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    pages = [page for page in pages if page != "404.html"]
    text = (
        DRIVER.replace("SAY", SAY).replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps(WIDTHS))
    )
    seen, errors = site_server.visit("driver.html", text, tmp_path)
    assert errors == []
    assert [(one["page"], one["width"]) for one in seen] == [
        (page, width) for page in pages for width in WIDTHS
    ]
    assert [(one["page"], one["broken"]) for one in seen if one["broken"]] == []
    assert [(one["page"], one["width"]) for one in seen if one["overflow"] > 0] == []
    assert all("keras_scgm" in one["title"] for one in seen)
    assert sum(one["count"] for one in seen) >= 8


def test_the_driver_sees_what_is_broken(site_server, tmp_path):
    wide = (
        '<title>wide</title><body style="margin: 0"><div style="width: 500px">x</div><img src="nothing.png">'
    )
    (site_server.folder / "wide.html").write_text(wide, encoding="utf-8")
    text = DRIVER.replace("SAY", SAY).replace("PAGES", '["wide.html"]').replace("WIDTHS", json.dumps(WIDTHS))
    seen, errors = site_server.visit("driver_of_wide.html", text, tmp_path)
    assert [one["overflow"] > 0 for one in seen] == [True, False]
    assert all(one["broken"] for one in seen)
    assert errors == ["/nothing.png: 404"] * 2
    (site_server.folder / "wide.html").unlink()


SEARCH = """<script>
SAY
window.addEventListener("load", async () => {
  const until = async what => { while (!what()) await new Promise(done => setTimeout(done, 50)); return what(); };
  document.querySelector(".md-search__button").click();
  const shadows = () => [...document.querySelectorAll("*")].map(one => one.shadowRoot).filter(Boolean);
  const root = await until(() => shadows().find(one => one.querySelector("input")));
  const field = root.querySelector("input");
  field.value = "cord_ap_mm";
  field.dispatchEvent(new InputEvent("input", {bubbles: true}));
  await until(() => root.querySelector("a"));
  const found = [...root.querySelectorAll("a")].map(link => link.href);
  document.body.dataset.seen = JSON.stringify(found);
  if (location.protocol !== "file:") await say(found);
});
</script></body>""".replace("SAY", SAY)


def test_search_of_the_served_site(site_server, tmp_path):
    text = (site_server.folder / "index.html").read_text(encoding="utf-8")
    seen, errors = site_server.visit("searching.html", text.replace("</body>", SEARCH), tmp_path)
    assert errors == []
    assert any("reference/tables.html" in link for link in seen)


def test_search_of_pages_opened_as_files(site_server):
    page = site_server.folder / "searching_files.html"
    text = (site_server.folder / "index.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", SEARCH), encoding="utf-8")
    dom, errors = browse(page, "--dump-dom", "--virtual-time-budget=30000")
    assert errors == []
    found = re.search(r'data-seen="(.*?)"', dom)
    assert found, dom[-2000:]
    assert any("reference/tables.html" in link for link in json.loads(html.unescape(found[1])))


SCHEME = """<script>
SAY
window.addEventListener("load", async () => {
  const scheme = () => [document.body.dataset.mdColorScheme, getComputedStyle(document.body).backgroundColor];
  const choices = [...document.querySelectorAll("input[name=__palette]")], seen = [scheme()];
  for (const choice of choices.slice(1)) {
    choice.click();
    await new Promise(done => setTimeout(done, 300));
    seen.push(scheme());
  }
  await say(seen);
});
</script></body>""".replace("SAY", SAY)


def test_light_and_dark(site_server, tmp_path):
    text = (site_server.folder / "index.html").read_text(encoding="utf-8")
    seen, errors = site_server.visit("schemes.html", text.replace("</body>", SCHEME), tmp_path)
    assert errors == []
    assert [scheme for scheme, _ in seen] == ["default", "default", "slate"]
    assert seen[1][1] != seen[2][1]

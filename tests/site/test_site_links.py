"""Every link, image, style and script of the built site that lies within it exists; nothing else is loaded."""

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in LOADED and values.get(LOADED[tag]) and values.get("rel") != "canonical":
            self.loaded.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "404.html"
    }


def broken(pages, site: Path):
    for name, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            goal = name if not parts.path else goal
            if not (site / goal).is_file():
                yield f"{name}: {link}"
            elif goal in pages and unquote(parts.fragment) not in pages[goal].anchors:
                yield f"{name}: {link} (anchor)"


def test_every_internal_link_has_its_goal(pages, site):
    assert len(pages) > 40
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert [*broken(pages, site)] == []


def test_the_checker_finds_what_is_broken(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#x"></a><img src="c.png"><a href="#y"></a><p id="z">')
    (tmp_path / "b.html").write_text('<a href="a.html#z"></a><a href="https://example.org/d"></a>')
    pages = {path.name: Page(path.read_text()) for path in sorted(tmp_path.iterdir())}
    assert [*broken(pages, tmp_path)] == ["a.html: b.html#x (anchor)", "a.html: #y (anchor)", "a.html: c.png"]


def test_nothing_is_loaded_from_another_host(pages, site):
    assert {link for page in pages.values() for link in page.loaded if urlsplit(link).netloc} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "url(http" not in styles
    assert "@import" not in styles

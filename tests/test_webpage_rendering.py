"""What the templates of pages are filled with."""

import json

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'report'")

from keras_scgm.webpage import script_json


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a <b> & c"])
def test_no_text_leaves_its_script_element(text):
    content = {text: [text, 1.5, None]}
    assert "<" not in script_json(content)
    assert json.loads(script_json(content)) == content

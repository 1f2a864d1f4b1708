"""What a test needs is not missing in silence where it must be there."""

import browser
import pytest


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_chromium_tests_fail_in_ci_and_are_skipped_elsewhere(monkeypatch, tmp_path, ci, outcome):
    monkeypatch.setattr(browser, "CHROMIUM", None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="Chromium is missing"):
        browser.browse(tmp_path / "page.html")

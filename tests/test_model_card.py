"""Model cards: metadata of the Hugging Face Hub, and what the weights' card says."""

import re
from pathlib import Path

import pytest
import yaml

from keras_scgm.errors import InputError
from keras_scgm.pretrained import WeightsCard, list_weights, model_card, weights_card


def parts(text):
    _, metadata, body = text.split("---\n", 2)
    return yaml.safe_load(metadata), body


@pytest.mark.parametrize("name", list_weights())
def test_a_card_has_what_the_weights_card_says(name):
    card = weights_card(name)
    metadata, body = parts(model_card(card))
    (index,) = metadata["model-index"]
    assert index["name"] == name
    assert [result["metrics"][0]["value"] for result in index["results"]] == [
        score["value"] for score in card.scores
    ]
    assert metadata["license"] == ("mit" if card.licence.startswith("MIT") else "other")
    assert ("white-matter" in metadata["tags"]) == (len(card.tissues) == 2)
    for text in (card.limits, card.data, card.citation):
        assert text[1:] in body
    for score in card.scores:
        assert f"| {score['image']} | {score['metric']} | {score['value']} |" in body


def test_metadata_are_those_the_hub_reads():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(weights_card("synthetic"))).data
    assert data.license == "mit"
    assert data.library_name == "keras"
    assert {result.metric_type for result in data.eval_results} == {"dice"}


def test_a_licence_without_a_name_is_given_as_it_is():
    card = WeightsCard("mine", "UNet", {}, "mine.keras", "0" * 64, licence="for members of the lab")
    metadata, body = parts(model_card(card))
    assert (metadata["license"], metadata["license_name"]) == ("other", "for members of the lab")
    assert "Not measured." in body


def test_the_command_prints_the_card(run):
    code, out, err = run("weights", "synthetic")
    assert (code, err) == (0, "")
    assert out == model_card(weights_card("synthetic"))
    code, out, err = run("weights", "nothing")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_what_is_no_card_is_refused():
    with pytest.raises(InputError, match="a WeightsCard"):
        model_card("synthetic")


def test_the_data_statement_is_about_all_weights_and_images_in_the_cards():
    path = Path(__file__).parents[1] / "docs" / "reference" / "data_statement.md"
    trained, measured = path.read_text(encoding="utf-8").split("## Measured on")
    for name in list_weights():
        assert re.search(rf"^\|.*`{name}`.*\|", trained, re.MULTILINE), name
        for image in (score["image"] for score in weights_card(name).scores):
            if "(" in image:
                names, source = re.fullmatch(r"(.+) \(.+/(.+)\)", image).groups()
                for one in names.split(", "):
                    assert re.search(rf"^\| .*{one}.*\[{source}\]", measured, re.MULTILINE), image

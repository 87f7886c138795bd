"""Model cards: complete, honest, valid for the Hub, and without this machine's places."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import yaml
from commandline import Cli, cli  # noqa: F401
from huggingface_hub import ModelCard, parse_eval_result_entries
from runs import RECORD, make_evaluation, make_run

import stzoo
from stzoo import cards, lineage
from stzoo.publishing import Source
from stzoo.results import Summary

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a")


def sections(card: str) -> list[str]:
    return re.findall(r"^## (.*)$", card, re.MULTILINE)


def test_the_command_prints_what_is_in_the_repository(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    card = (ROOT / "model_cards" / "tau-mmnist.md").read_text()
    assert cli("card", "tau-mmnist")[:2] == (0, card)
    assert cli("card", "tau-mmnist", "-o", tmp_path / "card.md")[0] == 0
    assert (tmp_path / "card.md").read_text() == card
    assert cli("card", "--all", tmp_path / "all")[0] == 0
    written = {path.name: path.read_text() for path in (tmp_path / "all").iterdir()}
    assert written == {path.name: path.read_text() for path in (ROOT / "model_cards").iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say which card"),
        (("tau-mmnist", "--all", "x"), "say which card"),
        (("tau-mnist",), "no model is called 'tau-mnist'. Did you mean"),
        (("me/tau-clips",), "A Hub repo is for load, pull, predict"),
        ((".",), "holds no model"),
    ],
)
def test_the_command_refuses(cli: Cli, words: tuple[str, ...], message: str) -> None:  # noqa: F811
    code, out, err = cli("card", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_the_card_of_a_run(run: Path, cli: Cli) -> None:  # noqa: F811
    code, card, _ = cli("card", run)
    assert code == 0
    assert sections(card) == ["Use it", "Results", "Training", "Limitations"]
    data = ModelCard(card).data
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", "stzoo/tau-mmnist", "stzoo")
    assert [(item.metric_type, item.metric_value) for item in data.eval_results] == [("mse", 11.875)]
    for text in (
        'stzoo.load("./a/best")',
        "| tau (this model) | **11.875** [10.88, 12.88] | 20 |",
        "| tau-mmnist (starting weights) | 30.5 [29.5, 31.5] | 20 |",
        "| persistence (baseline) | 42 [41, 43] |",
        "`stzoo evaluate a tau-mmnist --data rain`",
        "| starting weights | 31.25 | 0.5 |",
        "| this model, step 1000 | 12.125 | 0.75 |",
        "| Trained on | rain (licence of the data: cc-by-4.0) |",
        "| Time | 1 h 23 min |",
        "$ stzoo finetune tau-mmnist --data rain --output a",
        "<summary>Training arguments</summary>",
        "| `validation` | later |",
        "inherits the limitations of stzoo/tau-mmnist",
    ):
        assert text in card, text
    assert "`clip`" not in card, "what was not set is left out"
    assert "More Information Needed" not in card
    assert not any(place in card for place in ("/home", "somebody", "../", str(run.parent)))


def test_without_an_evaluation_the_numbers_are_those_of_validation(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", evaluated=False, status="interrupted", step=1000, steps=5000, license="cc-by-nc-4.0"
    )
    card = Source.open(run).card("me/x")
    results = card.partition("## Results")[2].partition("## Training")[0]
    assert "On rain (validation during training, 64 examples), the weights chosen by `mse`" in results
    assert "| this model, step 1000 | 12.125 | 0.75 |" in results
    assert "Measured with `stzoo finetune" in results
    assert card.count("12.125 |") == 1
    index = ModelCard(card).data.eval_results
    assert {item.dataset_name for item in index} == {"rain (validation during training, 64 examples)"}
    assert "1,000 steps, 5,000 were planned" in card
    assert "Its training was interrupted" in card
    assert "Its licence forbids commercial use" in card


def test_numbers_of_other_weights_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path / "run")
    model = stzoo.load(run / "best")
    next(model.module.parameters()).data.add_(1)
    model.save(run / "best")
    with caplog.at_level(logging.WARNING, "stzoo"):
        card = Source.open(run).card("me/x")
    assert "evaluation.json is about other weights and is left out" in caplog.text
    assert "11.875" not in card


def test_an_untrained_model_has_a_card_without_gaps(tmp_path: Path) -> None:
    card = (stzoo.create("tau", hid_S=4, hid_T=8, N_S=2, N_T=2).save(tmp_path / "x") / "README.md").read_text()
    assert sections(card) == ["Use it", "Limitations"]
    assert "No numbers were recorded" in card
    assert "Licence" not in card
    assert "model-index" not in card


def test_saving_again_keeps_a_card_that_was_edited(tmp_path: Path) -> None:
    model = stzoo.create("tau", hid_S=4, hid_T=8, N_S=2, N_T=2)
    card = model.save(tmp_path) / "README.md"
    text = card.read_text()
    card.write_text(text.replace("## Limitations", "## Old limitations"))
    model.save(tmp_path)
    assert card.read_text() == text, "with the mark it is ours"
    card.write_text(text.replace(cards.MARK, "") + "mine\n")
    model.save(tmp_path)
    assert card.read_text().endswith("mine\n")


def test_results_for_data_sets_of_the_hub(run: Path) -> None:
    """The Hub's format names data sets of the Hub; others are in the model index alone."""
    own = json.loads((run / "best" / "config.json").read_text())["stzoo"]["sha256"]
    measured = cards.of_these_weights(make_evaluation(run, "alice/rain"), own)
    entries = parse_eval_result_entries(yaml.safe_load(cards.evaluation_results(measured)))
    assert [(item.dataset_id, item.task_id, item.value) for item in entries] == [("alice/rain", "mse", 11.875)]
    assert entries[0].notes == "alice/rain (test, 120 examples): stzoo evaluate a tau-mmnist --data alice/rain"
    assert cards.evaluation_results(cards.of_these_weights(make_evaluation(run), own)) == ""


def test_numbers_that_are_not_finite_are_shown_and_not_indexed(run: Path) -> None:
    from dataclasses import replace

    source = Source.open(run)
    first, *others = source.evaluation.models
    exact = replace(first, metrics={"mse": Summary(0.0, 0.0, 0.0), "psnr": Summary(float("inf"))})
    others = [replace(item, metrics=item.metrics | {"psnr": Summary(10.0)}) for item in others]
    better = {"mse": "lower", "psnr": "higher"}
    evaluation = replace(source.evaluation, models=(exact, *others), better=better)
    card = replace(source, evaluation=evaluation).card("me/x")
    assert "| **0** [0, 0] | **inf** |" in card
    assert [item.metric_type for item in ModelCard(card).data.eval_results] == ["mse"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--data /home/me/rain -o ../runs/a", "--data rain -o a"),
        ("--data=/home/me/rain/ x", "--data=rain x"),
        ("--data '/home/me/rain' ~/b", "--data 'rain' b"),
        (r"--data C:\Users\me\rain", "--data rain"),
        ("rain=/a/b,wind=/c/d", "rain=b,wind=d"),
        ("clips/rain alice/rain?size=2", "clips/rain alice/rain?size=2"),
        ("https://x.org/a/b hf://datasets/a 1/2", "https://x.org/a/b hf://datasets/a 1/2"),
    ],
)
def test_paths_lose_their_folders(text: str, expected: str) -> None:
    assert lineage.portable(text) == expected


def test_several_data_sets(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", data={"source": "/data/synthetic", "target": "alice/real"})
    card = Source.open(run).card("me/x")
    assert "| Data | source: synthetic, target: alice/real |" in card
    assert RECORD["command"] not in card

"""What a prediction costs, and where an evaluation says so."""

from __future__ import annotations

from pathlib import Path

import torch

import stzoo
from stzoo.costs import _Memory, costs


def test_memory_is_the_most_that_lived_at_once() -> None:
    given = torch.zeros(1000)
    with _Memory() as memory:
        first = given + 1  # 4 kB; what was given does not count
        second = first.view(10, 100) * 2  # 8 kB; a view is nothing of its own
        del first
        third = second + 1  # 8 kB
        del second
    assert memory.peak == 8000
    assert third.sum() == 3000


def test_an_evaluation_says_what_its_models_cost(tmp_path: Path) -> None:
    predictor = stzoo.load("tau-mmnist")
    found = costs(predictor)
    assert found == costs(predictor)
    assert (found.parameters, found.multiply_adds) == (predictor.spec.parameters, predictor.spec.flops)
    assert found.memory > 4 * found.parameters
    evaluation = stzoo.evaluate(predictor, "moving-mnist", limit=1, output=tmp_path)
    model, baseline = evaluation.models
    assert (model.costs["memory"], baseline.costs) == (found.memory, {})
    page, rate = (tmp_path / "evaluation.md").read_text(), model.examples_per_second
    assert rate and "| memory | examples/s | frames/s |" in page
    cells = (f"{found.parameters:,}", "0.938 G", f"{found.memory / 1e6:.3g} MB", f"{rate:.3g}", f"{10 * rate:.3g}")
    assert f"| tau-mmnist | {' | '.join(cells)} |" in page

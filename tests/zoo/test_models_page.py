"""docs/models.md says of every detector what the zoo says."""

from pathlib import Path

import pytest

from multibox.zoo import MODELS, new_card

PAGE = Path(__file__, "../../../docs/models.md").resolve()


@pytest.mark.parametrize("name", MODELS)
def test_input_boxes_and_every_figure(name: str) -> None:
    lines = PAGE.read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    begin = next(i for i, row in enumerate(rows) if row[0] == f"`{name}`" and len(row) == 7)
    model = MODELS[name]
    count = new_card(name, ["object"]).default_boxes.count
    sets = ", ".join(model.box_sets) if len(model.box_sets) > 1 else "one"
    assert rows[begin][:4] == [f"`{name}`", str(model.image_size[0]), f"{count:,}", sets]
    figures = [
        [f"{100 * figure.value:.1f} {figure.metric}", figure.trained_on, figure.source]
        for figure in model.published
    ]
    assert [row[4:] for row in rows[begin : begin + len(figures)]] == figures

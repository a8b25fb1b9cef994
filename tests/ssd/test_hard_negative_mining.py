"""Hard negative mining against two full sorts."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from multibox.ssd.hard_negative_mining import hard_negatives


def double_sort(loss: Tensor, positive: Tensor, ratio: float) -> Tensor:
    """The rank of every negative among its picture's negatives, by sorting twice."""
    mask = torch.zeros_like(positive)
    for i in range(len(loss)):
        masked = loss[i].clone()
        masked[positive[i]] = -torch.inf
        rank = masked.argsort(descending=True).argsort()
        mask[i] = (rank < int(ratio * int(positive[i].sum()))) & ~positive[i]
    return mask


@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 60),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0]),
)
def test_equals_two_sorts(seed: int, b: int, n: int, share: float, ratio: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Without ties: a permutation of distinct losses in every picture.
    loss = torch.stack([torch.randperm(n, generator=generator).float() for _ in range(b)]) / 7
    positive = torch.rand(b, n, generator=generator) < share**3
    expected = double_sort(loss, positive, ratio)
    assert hard_negatives(loss, positive, ratio).tolist() == expected.tolist()


def test_three_to_one_in_each_picture_by_itself() -> None:
    loss = torch.rand(4, 1000, generator=torch.Generator().manual_seed(0))
    loss[3] += 100  # the hardest picture may not use up the others' share
    positive = torch.zeros(4, 1000, dtype=torch.bool)
    for i, count in enumerate((1, 0, 20, 5)):
        positive[i, :count] = True
    mask = hard_negatives(loss, positive)
    assert mask.sum(dim=1).tolist() == [3, 0, 60, 15]
    assert not (mask & positive).any()
    assert float(loss[0][mask[0]].min()) >= float(loss[0][~mask[0] & ~positive[0]].max())


def test_fewer_negatives_than_asked_for() -> None:
    positive = torch.tensor([[True, True, True, False, False], [True, False, False, False, False]])
    mask = hard_negatives(torch.arange(10.0).reshape(2, 5), positive)
    assert mask.tolist() == [[False] * 3 + [True] * 2, [False, False, True, True, True]]


def test_no_positives_no_negatives() -> None:
    assert not hard_negatives(torch.rand(2, 9), torch.zeros(2, 9, dtype=torch.bool)).any()


def test_nothing_but_positives() -> None:
    assert not hard_negatives(torch.rand(2, 9), torch.ones(2, 9, dtype=torch.bool)).any()

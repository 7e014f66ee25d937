"""How far samples of images are from true ones: the Frechet distance between features (Heusel et al. 2017).

The features are those of a small classifier that is trained on the true images (arXiv 1706.08500 takes Inception's, of
photographs). Distances of different classifiers do not compare.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unspoken import checks

_ROWS = 512  # images looked at at a time


class Classifier(nn.Module):
    """Two convolutions and a layer of `features`, then the classes."""

    def __init__(self, side: int, classes: int, features: int = 32):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, stride=1 if side < 16 else 2, padding=1), nn.SiLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.SiLU()),
            nn.Flatten(),
            *(nn.LazyLinear(features), nn.SiLU()),
        )
        self.head = nn.Linear(features, classes)
        self.body(torch.zeros(1, 1, side, side))  # the lazy layer learns its width

    def forward(self, grey: Tensor) -> Tensor:
        """Logits `[n, classes]` of images `[n, side, side]` in [0, 1]."""
        return self.head(self.body(2 * grey[:, None] - 1))

    @torch.no_grad()
    def features(self, grey: Tensor) -> Tensor:
        """`[n, features]` of images."""
        return torch.cat([self.body(2 * part[:, None] - 1) for part in grey.split(_ROWS)])

    @torch.no_grad()
    def probabilities(self, grey: Tensor) -> Tensor:
        """`[n, classes]`."""
        return torch.cat([self(part).softmax(-1) for part in grey.split(_ROWS)])


def train_classifier(grey: Tensor, label: Tensor, steps: int = 1_000, batch: int = 128, seed: int = 0) -> Classifier:
    """A classifier of images `[n, side, side]` by their classes `[n]`; the same seed makes the same one."""
    checks.count("steps", steps, 1)
    checks.tensor("label", label, torch.int64, (len(grey),))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(grey.shape[1], int(label.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        index = torch.randint(len(grey), (batch,), generator=generator)
        loss = nn.functional.cross_entropy(model(grey[index]), label[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False).eval()


def frechet(a: Tensor, b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) of features `[n, d]` and `[m, d]`, A and B their covariances.

    It is biased upwards where samples are few: compare equal numbers. Raises ValueError for fewer than two of either.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features of shape {tuple(a.shape)} and {tuple(b.shape)}; give [n, d] of both, n 2 or more, equal d"
        )
    a, b = a.double(), b.double()
    first, second = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)

"""What a pass reads of the pass before it: states, drawn vectors, or the next step of a walk.

A pass of `Packed.then` is given as far as it is known beforehand; what it is to read is a value that is called with its
layout and with the pass before, and returns the layout that is run. Gradients flow through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unspoken.layout.entries import Layout, entries_of
from unspoken.noise import Gaussian


@dataclass(frozen=True)
class Before:
    """A pass that has run: its layout, its last states, and what the port of values predicts at entries of it."""

    layout: Layout
    states: Tensor
    predict: Callable[[Tensor], Any]

    @property
    def value(self) -> Tensor:
        """The values that it showed. Raises ValueError where it showed none."""
        if self.layout.value is None:
            raise ValueError("the pass before shows no values, of which this one would read: give its Layout.value")
        return self.layout.value


Reads = Callable[[Layout, Before], Layout]


@dataclass(frozen=True)
class States:
    """Its slots read the states that they had (`Layout.carried`)."""

    def __call__(self, layout: Layout, before: Before) -> Layout:
        """The same entries, with the states of the pass before."""
        return replace(layout, carried=before.states)


@dataclass(frozen=True)
class Draw:
    """Its entries `into` show vectors drawn from what the port predicts at the entries `at` of the pass before.

    at, into: `[batch, m]`. eps: `[batch, m, width]` the standard normal numbers of the draw. more: `[batch, m, width]`
        noise that is added to it.
    """

    at: Tensor
    into: Tensor
    eps: Tensor
    more: Tensor

    def __call__(self, layout: Layout, before: Before) -> Layout:
        """The pass with the vectors drawn."""
        return shown(layout, self.into, before.predict(self.at).at(self.eps) + self.more)


@dataclass(frozen=True)
class Stepped:
    """Its values are those of the pass before, and at `into` the next step of the walk that those at `at` are on.

    at, into: `[batch, m]` entries of the pass before, and of this one. time: `[batch, m]` to which the walk steps.
    """

    process: Gaussian
    at: Tensor
    into: Tensor
    time: Tensor

    def __call__(self, layout: Layout, before: Before) -> Layout:
        """The pass with the values of the one before, one step on."""
        z, t = entries_of(before.value, self.at), entries_of(before.layout.times, self.at)
        prediction = before.predict(self.at)
        views = self.process.views(prediction.value, z, t.to(z.dtype), prediction.view)
        moved = self.process.step(views, z, t.to(z.dtype), self.time.to(z.dtype))
        return shown(replace(layout, value=before.value), self.into, moved)


STATES = States()


def shown(layout: Layout, at: Tensor, value: Tensor) -> Layout:
    """The layout with `value` `[batch, m, width]` at its entries `at` `[batch, m]`."""
    whole = layout.value
    if whole is None:
        whole = value.new_zeros(*layout.shape, value.shape[-1])
    index = at[..., None].expand(-1, -1, whole.shape[2])
    return replace(layout, value=whole.to(value.dtype).scatter(1, index, value))

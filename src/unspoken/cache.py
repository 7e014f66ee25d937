"""The context's keys and values, kept from pass to pass.

Exact wherever `Attention.cacheable`: a said token's states never change, because it sees no latents and nothing that is
said after it. The latents' keys are dropped after every pass.
"""

from __future__ import annotations

import torch

from unspoken.layout import Layout


class Cache:
    """What of the context a trunk need not compute again. Empty when made."""

    def __init__(self) -> None:
        from transformers import DynamicCache  # slow to import

        self.keys = DynamicCache()
        self.layout: Layout | None = None

    def __len__(self) -> int:
        """Entries held a row, padding included."""
        return 0 if self.layout is None else self.layout.shape[1]

    def before(self, layout: Layout) -> Layout:
        """What is held, then the entries of `layout`: the keys that a pass over `layout` sees."""
        return layout if self.layout is None else self.layout.join(layout)

    def keep(self, layout: Layout, width: int) -> None:
        """After a pass over `layout`: its first `width` entries stay, the others' keys are dropped.

        Entries in no document are never seen, so rows may keep fewer.
        """
        columns = torch.arange(width, device=layout.token.device).expand(layout.shape[0], width)
        if width < layout.shape[1]:
            self.keys.crop(width - layout.shape[1])  # negative: how many to take off the end
        self.layout = self.before(layout.select(columns))

    def take(self, rows: torch.Tensor) -> Cache:
        """A cache of some rows of the batch; this one stays as it is."""
        taken = Cache()
        if self.layout is not None:
            there = rows.to(self.layout.token.device)
            taken.layout = self.layout.rows(there)
            for number, layer in enumerate(self.keys.layers):
                taken.keys.update(layer.keys[there], layer.values[there], number)
        return taken

"""Language models that reason with the tokens they have not said yet.

import unspoken as us

model = us.load("runs/sudoku-6x6/scdm-seed0")
for step in us.decode(model, tokens, latents=16):
    print(step)
"""

import lazy_loader

# The names are in `__init__.pyi`. What a name needs is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Images as vectors of integers, and back: a small autoencoder, and levels for its numbers."""

from unspoken.codecs.quantizer import ScalarQuantizer, frequency_order, normal_levels
from unspoken.codecs.vae import CARD, Codec, Shape, load_codec, train_vae

__all__ = [
    "CARD",
    "Codec",
    "ScalarQuantizer",
    "Shape",
    "frequency_order",
    "load_codec",
    "normal_levels",
    "train_vae",
]

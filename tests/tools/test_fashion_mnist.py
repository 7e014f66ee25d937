"""The builder of Fashion-MNIST keeps the known files and no others."""

import hashlib

import fashion_mnist
import pytest

from unspoken.tasks.images import MAGIC, fashion_file


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package, unpacked, whose files are the known ones."""
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path / "cache"))
    tree = tmp_path / "tree" / "usr/share/datasets/fashion-mnist"
    tree.mkdir(parents=True)
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in MAGIC]
    assert sorted(fashion_mnist.SHA256) == sorted(names)
    for name in names:
        (tree / name).write_bytes(name.encode())
        monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(name.encode()).hexdigest())
    monkeypatch.setattr("fashion_mnist.Shelf.debian", lambda self, name: tmp_path / "tree")
    return tree


def test_known_files_are_kept_where_the_reader_looks(package):
    fashion_mnist.build()
    for name in fashion_mnist.SHA256:
        assert fashion_file(name).read_bytes() == name.encode()


def test_another_file_is_refused(package, tmp_path):
    name = "t10k-labels-idx1-ubyte.gz"
    (package / name).write_bytes(b"other")
    with pytest.raises(SystemExit, match=f"{name}: 5 bytes, sha256 .* is expected"):
        fashion_mnist.main()
    assert not (tmp_path / "cache" / "fashion-mnist" / name).exists()
    (package / name).unlink()
    with pytest.raises(ValueError, match=f"holds no {name}"):
        fashion_mnist.build()

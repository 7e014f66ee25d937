import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Puzzles made by the tests stay out of the user's cache; one thread, so that sums are added in one order."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("UNSPOKEN_CACHE", str(path))
        yield path

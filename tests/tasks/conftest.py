import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Puzzles made by the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("UNSPOKEN_CACHE", str(path))
        yield path

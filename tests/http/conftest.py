"""Property tests here are repeatable, have no deadline and leave no files."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=100)
settings.load_profile("house")

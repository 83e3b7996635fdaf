"""What holds for every test."""

from hypothesis import settings

pytest_plugins = ["pytester"]  # pytest's own tester of plugins

# How long an example takes says how busy the machine is, and no more.
settings.register_profile("anywhere", deadline=None)
settings.load_profile("anywhere")

"""What holds for every test."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]  # pytest's own tester of plugins

# How long an example takes says how busy the machine is, and no more.
settings.register_profile("anywhere", deadline=None)
settings.load_profile("anywhere")

WALL_CLOCK = (
    "test_alerts",
    "test_dashboard",
    "test_kills",
    "test_live_engine",
    "test_loadtests",
    "test_serve",
    "test_service_killed",
    "test_workers_process",
)
"""How the names of files begin whose processes need the machine for themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what must not share its cores with other tests."""
    for item in items:
        if item.path.stem.startswith(WALL_CLOCK) and item.path.stem != "test_server":
            item.add_marker(pytest.mark.wall_clock)

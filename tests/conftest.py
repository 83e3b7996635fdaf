"""pytest's own tester of plugins, for tests/test_testing_plugin.py."""

pytest_plugins = ["pytester"]

"""The `sim` engine: the whole system as a discrete-event simulation, without sockets."""

from harness.engines.twin.engine import run_in_twin

__all__ = ["run_in_twin"]

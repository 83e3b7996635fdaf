"""Load tests: Locust drives simulated users against the service, over HTTP."""

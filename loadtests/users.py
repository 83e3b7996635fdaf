"""What `locust -f loadtests/users.py` runs."""

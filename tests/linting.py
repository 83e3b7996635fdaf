"""A scenario of which the lint has nothing to say: 100 calls of 1 s on 5 slots."""

FINE = """
[workload]
reviews = 100
users = 10
[upstream.profile]
ttft = 1.0
[slo]
duration_s = "<= 30"
[variants.batch]
[variants.arrivals.workload]
kind = "arrivals"
arrivals = { kind = "poisson", rate_per_s = 4.0 }
users = 10
duration_s = 600.0
deadline_s = 150.0
[variants.arrivals.pipeline]
workers = 6
[variants.users.workload]
kind = "users"
users = 100
think = { kind = "exponential", mean = 20.0 }
duration_s = 600.0
deadline_s = 150.0
[variants.users.pipeline]
workers = 6
"""

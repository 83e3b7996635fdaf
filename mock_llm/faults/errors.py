"""Error type and message by status, as OpenRouter documents them."""

ERRORS: dict[int, tuple[str, str]] = {
    408: ("timeout", "Operation timed out. Please try again later."),
    429: ("rate_limit_exceeded", "Provider returned error"),
    500: ("server", "Internal Server Error"),
    502: ("provider_unavailable", "Provider returned error"),
    503: ("provider_overloaded", "Service temporarily unavailable"),
    520: ("provider_unavailable", "Provider returned error"),
    522: ("timeout", "Request timed out. Please try again later."),
    524: ("timeout", "Request timed out. Please try again later."),
    529: ("provider_overloaded", "Provider returned error"),
}

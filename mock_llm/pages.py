"""The web page that Cloudflare shows in place of an answer."""

from http import HTTPStatus

HTML = b"Content-Type: text/html; charset=UTF-8\r\n"
_OWN = {
    520: "Web server is returning an unknown error",
    522: "Connection timed out",
    524: "A timeout occurred",
    529: "Site is overloaded",
}


def page(status: int, ray: str) -> bytes:
    """Return a page for a status; one with 200 asks to wait.

    Args:
        status: HTTP status, which the title repeats.
        ray: Cloudflare's id of the request.
    """
    said = "Just a moment..."
    if status != 200:
        said = f"openrouter.ai | {status}: {_OWN.get(status) or HTTPStatus(status).phrase}"
    return (
        f'<!DOCTYPE html>\n<html lang="en-US">\n<head><title>{said}</title></head>\n'
        f"<body><h1>{said}</h1>\n<p>Cloudflare Ray ID: <strong>{ray}</strong></p></body>\n</html>\n"
    ).encode()

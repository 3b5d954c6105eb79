"""Addresses without the secrets that may stand in them, and texts without control characters."""

import re

SECRET = "***"
"""Stands where a secret was."""
HARMLESS = {
    "region",
    "scheme",
    "endpoint_override",
    "allow_bucket_creation",
    "allow_bucket_deletion",
    "retry_limit_seconds",
    "charset",
    "driver",
}
"""Options after the `?` of an address whose values are shown, unless an @ is in them."""
_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>\x00-\x1f\x7f]*[^\s'\"<>\x00-\x1f\x7f,;.)]"
)


def shown(address: str) -> str:
    """An address as people may see it: without the name, the password and the tokens in it.

    A name and password end at the last @: where they should have been percent-encoded and were not,
    as in s3://KEY:A/B@bucket, too much is left out rather than too little.
    Values after `?` become `***`, but for those of `HARMLESS`, and so does all behind a `#`.

    Args:
        address: a URI; text without :// is given back as it is.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    rest, hash_mark, fragment = rest.partition("#")
    if "@" in fragment:  # the # is part of a password
        rest, hash_mark = fragment.rpartition("@")[2], ""
    place, query_mark, query = rest.partition("?")
    host, _, port = place.partition("/")[0].partition(":")
    if "@" in place and ("@" in host or port):
        place = place.rpartition("@")[2]
    elif "@" in query and port and not port.isdigit():  # the ? is part of a password
        place, query_mark, query = query.rpartition("@")[2].partition("?")
    options = "&".join(map(_option, query.split("&"))) if query else ""
    return f"{scheme}://{place}{query_mark}{options}{hash_mark}{SECRET if hash_mark else ''}"


def without_secrets(text: str) -> str:
    """A text with each address in it as `shown` gives it."""
    return _ADDRESS.sub(lambda found: shown(found[0]), text)


def printable(text: str) -> str:
    """A text that does nothing to a terminal: control characters are written as escapes."""
    return "".join(
        c if c.isprintable() or (c.isspace() and c in " \n\t") else _escaped(c) for c in text
    )


def _option(option: str) -> str:
    name, equals, value = option.partition("=")
    harmless = name.lower() in HARMLESS and "@" not in value and "%40" not in value
    return option if harmless or not equals else f"{name}={SECRET}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")

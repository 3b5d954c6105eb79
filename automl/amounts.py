"""Costs as text for people."""


def format_amount(value: float, group: str = "") -> str:
    """A cost in its own unit: counts whole, milliseconds to the hundredth.

    Args:
        value: of the cost.
        group: "," sets thousands apart, for tables.
    """
    whole = value == int(value) or value >= 10_000
    return f"{value:{group}.0f}" if whole else f"{value:{group}.2f}"

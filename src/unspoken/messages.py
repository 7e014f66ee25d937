"""What error messages quote of a user's input."""

from __future__ import annotations


def quoted(value: object, limit: int = 60) -> str:
    """The value as Python writes it, cut to about `limit` characters."""
    if isinstance(value, str) and len(value) > limit:
        return f"{value[:limit]!r}... ({len(value):,} characters)"
    text = repr(value)
    return text if len(text) <= limit + 2 else f"{text[:limit]}..."

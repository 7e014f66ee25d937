"""What error messages quote of a user's input."""

from __future__ import annotations


def quoted(value: object, limit: int = 60) -> str:
    """The value as Python writes it, cut to about `limit` characters."""
    if isinstance(value, str) and len(value) > limit:
        return f"{value[:limit]!r}... ({len(value):,} characters)"
    text = repr(value)
    return text if len(text) <= limit + 2 else f"{text[:limit]}..."


def first_line(error: Exception, limit: int = 200) -> str:
    """What an error of another library says, cut to its first line."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."

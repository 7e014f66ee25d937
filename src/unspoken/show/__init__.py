"""Pictures: the terminal (rich), figures (matplotlib), self-contained HTML."""

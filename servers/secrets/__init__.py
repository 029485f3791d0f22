"""Secrets: references (FQNs), the stores behind them, and texts that hold references."""

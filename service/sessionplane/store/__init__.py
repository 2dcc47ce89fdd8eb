"""Durable truth: what is written here survives; what is not, never happened."""

"""Deterministic simulation: a whole server, its clients and their bad luck in one thread, under a seed."""

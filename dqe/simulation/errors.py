"""How a simulation ends badly."""

from __future__ import annotations


class Violation(Exception):
    """A promise was broken: the reason to stop and look."""

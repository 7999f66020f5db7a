"""Errors for which a deployment cannot go on, in words for the person who started it."""

from __future__ import annotations


class DeployError(Exception):
    """The text says what is wrong and what to do about it."""

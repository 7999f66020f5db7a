"""Errors that stop a deployment, with texts for the person who started it."""

from __future__ import annotations


class DeployError(Exception):
    """A deployment cannot continue; the text says what is wrong and what to do about it."""

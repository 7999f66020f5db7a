"""Errors for which a folder is not synced at all, each with what the user can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syncline.model.errors import InvalidArgument, Kind, SpaceDeleted, SynclineError


class FolderBusy(SynclineError):
    """Another sync of this folder is running; wait for it or end it."""

    reason = "FOLDER_BUSY"
    kind = Kind.PRECONDITION


class FolderMissing(SynclineError):
    """The folder does not exist, or is not the one that was synced; mount or restore it."""

    reason = "FOLDER_MISSING"
    kind = Kind.PRECONDITION


class FolderUnreadable(SynclineError):
    """The folder cannot be read, so that it cannot be identified; fix its permissions."""

    reason = "FOLDER_UNREADABLE"
    kind = Kind.PRECONDITION


class FolderNotLinked(SynclineError):
    """This folder is not linked to a space; `syncline sync DIR` links it."""

    reason = "FOLDER_NOT_LINKED"
    kind = Kind.NOT_FOUND


class FolderUnsuitable(SynclineError):
    """This directory cannot be a synced folder; choose another one."""

    reason = "FOLDER_UNSUITABLE"
    kind = Kind.INVALID


class MountsChanging(SynclineError):
    """The filesystems mounted in the folder keep changing, so that it cannot be scanned; try again later."""

    reason = "MOUNTS_CHANGING"
    kind = Kind.UNAVAILABLE


class NotExcluded(InvalidArgument):
    """The path to include is not excluded; `syncline status DIR` lists the exclusions."""


class LinkedElsewhere(SynclineError):
    """The folder is already linked to another space; choose another directory."""

    reason = "LINKED_ELSEWHERE"
    kind = Kind.PRECONDITION


class TooManyDeletions(SynclineError):
    """The sync would delete most of the files; confirm that with --allow-mass-delete."""

    reason = "TOO_MANY_DELETIONS"
    kind = Kind.PRECONDITION


class StateDamaged(SynclineError):
    """The folder's state database is damaged; the next sync makes a new one."""

    reason = "STATE_DAMAGED"
    kind = Kind.PRECONDITION


class StateUnusable(SynclineError):
    """The folder's state database cannot be used; fix the reason and sync again."""

    reason = "STATE_UNUSABLE"
    kind = Kind.PRECONDITION


@contextmanager
def reassuring() -> Iterator[None]:
    """Context manager that adds to a SpaceDeleted from its body that the linked folder keeps its files."""
    try:
        yield
    except SpaceDeleted as error:
        text = f"{error}. The files of this folder stay as they are, and syncing goes on once the space is undeleted"
        raise SpaceDeleted(text, **error.details) from None

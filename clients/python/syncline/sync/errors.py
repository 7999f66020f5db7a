"""Errors for which a folder is not synced at all, each with what the user can do about it."""

from __future__ import annotations

from syncline.model.errors import InvalidArgument, Kind, SynclineError


class FolderBusy(SynclineError):
    """Another sync of this folder is running; wait for it or end it."""

    reason = "FOLDER_BUSY"
    kind = Kind.PRECONDITION


class FolderMissing(SynclineError):
    """The folder does not exist, or is not the one that was synced."""

    reason = "FOLDER_MISSING"
    kind = Kind.PRECONDITION


class FolderUnreadable(SynclineError):
    """The folder cannot be read, so that it cannot be identified."""

    reason = "FOLDER_UNREADABLE"
    kind = Kind.PRECONDITION


class FolderNotLinked(SynclineError):
    """This folder is not linked to a space; `syncline sync DIR` links it."""

    reason = "FOLDER_NOT_LINKED"
    kind = Kind.NOT_FOUND


class FolderUnsuitable(SynclineError):
    """This directory cannot be a synced folder."""

    reason = "FOLDER_UNSUITABLE"
    kind = Kind.INVALID


class MountsChanging(SynclineError):
    """The filesystems mounted in the folder keep changing, so that it cannot be scanned; try again later."""

    reason = "MOUNTS_CHANGING"
    kind = Kind.UNAVAILABLE


class NotExcluded(InvalidArgument):
    """The path to include is not excluded."""


class LinkedElsewhere(SynclineError):
    """The folder is already linked, but in another way."""

    reason = "LINKED_ELSEWHERE"
    kind = Kind.PRECONDITION


class TooManyDeletions(SynclineError):
    """The sync would delete most of the files."""

    reason = "TOO_MANY_DELETIONS"
    kind = Kind.PRECONDITION


class StateDamaged(SynclineError):
    """The folder's state database is damaged."""

    reason = "STATE_DAMAGED"
    kind = Kind.PRECONDITION


class StateUnusable(SynclineError):
    """The folder's state database cannot be used."""

    reason = "STATE_UNUSABLE"
    kind = Kind.PRECONDITION

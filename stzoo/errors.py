"""Every exception stzoo raises on purpose.

The message says what was wrong with *this* input; ``remedy`` says what to do next. The command line prints both in
one line and exits with 2.
"""

from __future__ import annotations


class StzooError(Exception):
    """Base of all stzoo exceptions. ``str(error)`` is one line: the problem, then the remedy."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


# --- names and plugins ------------------------------------------------------------------------------------------------


class SpecError(StzooError, ValueError):
    """A spec (Task, Architecture, Model, Weights, Dataset) is not valid."""


class UnknownName(StzooError, LookupError):
    """No registered thing has this name; the closest names are in the message."""


class UnknownModel(UnknownName):
    """No model has this name."""


class UnknownArchitecture(UnknownName):
    """No architecture has this name."""


class UnknownTask(UnknownName):
    """No task has this name."""


class UnknownDataset(UnknownName):
    """No dataset has this name."""


class UnknownPlugin(UnknownName):
    """No plugin has this name."""


class AmbiguousName(StzooError, LookupError):
    """Several plugins use this name; say ``plugin:name``."""


class PluginError(StzooError):
    """A plugin could not be loaded or used."""


class PluginMissing(PluginError):
    """The plugin that a model needs is not installed."""


class DependencyMissing(StzooError, ImportError):
    """An optional package is needed for this; the remedy is the pip command."""


# --- what the user hands in -------------------------------------------------------------------------------------------


class ConfigError(StzooError, ValueError):
    """A configuration key is unknown, of the wrong type or out of range."""


class InputError(StzooError, ValueError):
    """An input to a model does not fit: type, frames, channels, size or values."""


class MediaError(InputError):
    """A file could not be read as what it should be, or could not be written."""


class DatasetError(StzooError):
    """A dataset could not be read."""


class SplitMissing(DatasetError):
    """The dataset has no part of this name."""


class StreamError(DatasetError, TypeError):
    """A stream has no length and no numbered examples. (Python asks every iterable for its length: hence a TypeError.)"""


class TrainingFailed(StzooError):
    """Training cannot go on; what was saved before is kept."""


class FormatError(StzooError, ValueError):
    """A foreign checkpoint could not be read or recognised."""


class LicenseError(StzooError):
    """No licence is known, or the one that was given conflicts with that of the base model."""


class LockError(StzooError):
    """A lock file does not allow this model or these bytes."""


# --- weights ----------------------------------------------------------------------------------------------------------


class WeightsError(StzooError):
    """Weights could not be had or do not fit."""


class WeightsMismatch(WeightsError):
    """The tensors in the file are not the ones the network needs."""


class WeightsCorrupted(WeightsError):
    """The bytes are not the ones that were published (wrong sha256, not a safetensors file)."""


class WeightsUnavailable(WeightsError):
    """The model has no weights in any place stzoo may look."""


# --- files from web servers ------------------------------------------------------------------------------------------


class DownloadError(StzooError):
    """A server does not give the file, or gives something else."""


class ServerUnavailable(DownloadError):
    """The server cannot be reached or keeps failing (5xx, 429, resets, time-outs)."""


# --- the Hub ----------------------------------------------------------------------------------------------------------


class HubError(StzooError):
    """The Hugging Face Hub could not do what was asked."""


class HubOffline(HubError):
    """No network, or offline mode, and the file is not in the cache."""


class HubUnavailable(HubError):
    """The Hub keeps failing (5xx, resets, time-outs)."""


class RateLimited(HubError):
    """The Hub answers 429."""


class RepoNotFound(HubError):
    """No such repository, or it is private and no valid token was given."""


class RepoGated(HubError):
    """The repository's owner must grant access first."""


class AuthenticationFailed(HubError):
    """The token was refused, or lacks the permission."""


class RevisionNotFound(HubError):
    """The repository has no such branch, tag or commit (any more)."""


class RemoteFileNotFound(HubError):
    """The repository has no such file at this revision."""


class DownloadTruncated(HubError, DownloadError):
    """Fewer bytes arrived than were announced, again and again."""


class DiskFull(StzooError, OSError):
    """No space left to write to."""

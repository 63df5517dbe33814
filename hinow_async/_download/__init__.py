"""The downloader: from a result to a file that is whole, or to no file at all."""

from hinow_async._download.checkpoint import state_name, states_in, sweep
from hinow_async._download.downloader import Downloader
from hinow_async._download.part import Kept
from hinow_async._download.transfer import DownloadSessions

__all__ = ["DownloadSessions", "Downloader", "Kept", "state_name", "states_in", "sweep"]

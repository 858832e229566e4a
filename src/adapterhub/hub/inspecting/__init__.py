"""What files of an adapter hold, told without running or trusting anything in them: numbers and JSON alone."""

from adapterhub.hub.inspecting.adapter import inspect
from adapterhub.hub.inspecting.files import check_file, check_files, check_paths, check_type
from adapterhub.hub.inspecting.formats import Known
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash

__all__ = [
    "AdapterInfo",
    "HeadInfo",
    "Known",
    "Need",
    "check_file",
    "check_files",
    "check_paths",
    "check_type",
    "config_hash",
    "inspect",
]

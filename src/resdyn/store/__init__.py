"""Captured arrays on disk: written task by task, sealed, and opened as one `xarray.Dataset`."""

from resdyn._files import whole_file
from resdyn.store.layout import Layout, Region, Variable
from resdyn.store.place import recover
from resdyn.store.store import (
    check_resumable,
    create_store,
    done_tasks,
    exists,
    is_done,
    open_store,
    overwrite_store,
    stored_regions,
    stored_settings,
    write_task,
)

__all__ = [
    "Layout",
    "Region",
    "Variable",
    "check_resumable",
    "create_store",
    "done_tasks",
    "exists",
    "is_done",
    "open_store",
    "overwrite_store",
    "recover",
    "stored_regions",
    "stored_settings",
    "whole_file",
    "write_task",
]

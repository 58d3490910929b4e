"""A place where a session leaves no trace in the user's own Victor."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from victor_otel.demo.embeddings import deterministic_embeddings
from victor_otel.demo.victor_parts import part

PREFIX = ".victor-otel-demo-"
STATE_FOLDER = PREFIX + secrets.token_hex(4)
"""One for each process: Victor settles its state folder once, while it is being imported."""


class VictorAlreadyLoadedError(RuntimeError):
    """Victor was imported before the demo could choose its state folder."""


@contextlib.contextmanager
def sandbox() -> Generator[Path]:
    """Give Victor a home, a state folder and a working directory of its own, for a while.

    Victor takes a state folder's *name* only, and puts it into the home and into the working
    directory; its databases go into the home whatever that name is. The API key is no secret:
    the model that it is for runs in this process.
    """
    if _loaded() and not _ours():
        message = "Victor is already loaded with the user's own state: use a process of its own"
        raise VictorAlreadyLoadedError(message)
    with (
        tempfile.TemporaryDirectory(
            prefix="victor-otel-demo-", ignore_cleanup_errors=True
        ) as folder,
        _environment(),
        _quiet(),
        contextlib.chdir(folder),
    ):
        try:
            with deterministic_embeddings():
                yield Path(folder)
        finally:
            _remove_state()


def _state_path() -> Path:
    return Path(part("victor.config.settings", "GLOBAL_VICTOR_DIR"))


def _loaded() -> bool:
    return "victor.config.settings" in sys.modules


def _ours() -> bool:
    """Whether an earlier sandbox of this process has settled Victor's state folder."""
    return _state_path().name == STATE_FOLDER


def _remove_state() -> None:
    """What Victor keeps in the home that it was told, and what in the one it finds by itself."""
    if _loaded() and _ours():
        for path in {_state_path(), part("victor.config.secure_paths", "get_victor_dir")()}:
            if path.name == STATE_FOLDER:
                shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """The user's home as Victor's databases see it; they stay open for the whole process."""
    return tempfile.TemporaryDirectory(prefix="victor-otel-home-", ignore_cleanup_errors=True)


def leave_home() -> None:
    """Remove the home now: a process that another program takes over has no end of its own."""
    _home().cleanup()


@contextlib.contextmanager
def _environment() -> Generator[None]:
    bypass = [os.environ.get("NO_PROXY", ""), "127.0.0.1"]
    wanted = {
        "VICTOR_DIR_NAME": STATE_FOLDER,
        "HOME": _home().name,
        "OPENAI_API_KEY": "not-a-secret",
        "NO_PROXY": ",".join(filter(None, bypass)),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep Victor from configuring logging by itself, which it does where nobody has."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)

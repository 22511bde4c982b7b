"""Fixtures of all ingest tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

# tests are no package (importlib mode), so the shared module is made importable by its plain name
if "awkward" not in sys.modules:
    spec = importlib.util.spec_from_file_location("awkward", Path(__file__).with_name("awkward.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["awkward"] = module
    spec.loader.exec_module(module)

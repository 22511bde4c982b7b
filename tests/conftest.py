"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a machine that does other things is slow, not wrong
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def _make_importable(file: Path) -> None:
    """Load a module that several test modules share under its plain name: tests are no package (importlib mode)."""
    if file.stem in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)


_make_importable(Path(__file__).with_name("end_to_end.py"))
_make_importable(Path(__file__).with_name("s3_server.py"))
_make_importable(Path(__file__).with_name("azure_server.py"))
_make_importable(Path(__file__).with_name("region_scenes.py"))
_make_importable(Path(__file__).with_name("ingest") / "awkward.py")

import end_to_end as e2e  # noqa: E402 - importable from here on
import s3_server  # noqa: E402 - as above

from curate.adapters.object_store import StorePath, open_store  # noqa: E402 - after what makes the others importable


@pytest.fixture(autouse=True)
def _ctrl_c() -> None:
    """Let what a test starts hear Ctrl-C: a command line that ended in this process, or a shell, may have it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., e2e.Done]:
    """Return a function that runs the command line in this process: for many calls that each do little."""
    from curate.cli import main  # noqa: PLC0415 - most tests need none of it

    def call(*arguments: str | Path) -> e2e.Done:
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(own_process=False)
        said = capsys.readouterr()
        return e2e.Done(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> e2e.Finished:
    """One undisturbed run over sixty pictures; tests that change something change a copy."""
    folder = tmp_path_factory.mktemp("finished")
    e2e.write_classes(folder / "data")
    spec = e2e.write_spec(folder / "pets.yaml", "{format: folder, path: data}")
    done = e2e.call("run", spec, "--workspace", folder / "ws", "--no-review", "--json")
    assert done.code == 0, done.err
    return e2e.Finished(folder, spec, folder / "ws", done)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    with s3_server.serving() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StorePath:
    """Return a new bucket with a prefix that has a space and an accent."""
    for name, value in s3_server.settings_for(server).items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    s3_server.make_bucket(server, name)
    return open_store(f"s3://{name}/a b/é")

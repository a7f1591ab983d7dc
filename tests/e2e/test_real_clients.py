"""curl, wget, apt and pip through a running proxy; the last two only where the registries can be reached."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_process import Process, offload
from tests.support.origin import Origin, response


@pytest.mark.parametrize("tool", ["curl", "wget"])
async def test_download_tools(tmp_path: Path, origin: Origin, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is what is tried, and is not installed")
    body = os.urandom(300_000)
    origin.routes["/file"] = response(body, "Cache-Control: max-age=60", 'ETag: "1"')
    proxy = await offload(Process, tmp_path / "cache")

    def fetch(name: str) -> bytes:
        url = origin.url("/file")
        command = {
            "curl": ["curl", "-sSf", "-o", name, url],
            "wget": ["wget", "-q", "-O", name, url],
        }[tool]
        environment = {**os.environ, "http_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": ""}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
        return (tmp_path / name).read_bytes()

    try:
        assert await offload(fetch, "one") == body
        assert await offload(fetch, "two") == body
    finally:
        await offload(proxy.stop)
    assert origin.count() == 1


def _apt_source_is_http() -> bool:
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(URI)"], capture_output=True, text=True, timeout=60
    )
    return done.returncode == 0 and "http://" in done.stdout


@pytest.mark.registry
def test_apt_get_download_twice(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None or not _apt_source_is_http():
        pytest.skip("apt is tried over http://, and has no such source here")
    direct = subprocess.run(
        ["apt-get", "download", "hostname"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    if direct.returncode:
        pytest.skip("without the proxy the Debian registry cannot be reached either")
    proxy = Process(tmp_path / "cache")
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            subprocess.run(
                [
                    "apt-get",
                    "-o",
                    f"Acquire::http::Proxy=http://127.0.0.1:{proxy.port}",
                    "download",
                    "hostname",
                ],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
        one, two = (next((tmp_path / name).glob("*.deb")).read_bytes() for name in ("one", "two"))
        assert one == two
        tags = [line.split()[3].partition("/")[0] for line in _log(proxy)]
        assert tags[0] == "TCP_MISS"
    finally:
        proxy.stop()


@pytest.mark.registry
def test_pip_download(tmp_path: Path) -> None:
    proxy = Process(tmp_path / "cache", "-o", "access.deny_destinations=[]")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--disable-pip-version-check",
        "-d",
        str(tmp_path / "d"),
    ]
    try:
        direct = subprocess.run(
            [*command, "six==1.16.0", "--no-cache-dir"], capture_output=True, text=True, timeout=120
        )
        if direct.returncode:
            pytest.skip("without the proxy the Python registry cannot be reached either")
        (tmp_path / "d" / "six-1.16.0-py2.py3-none-any.whl").unlink()
        through = [*command, "--proxy", f"http://127.0.0.1:{proxy.port}", "--no-cache-dir", "six==1.16.0"]
        subprocess.run(through, check=True, capture_output=True, timeout=120)
        assert (tmp_path / "d" / "six-1.16.0-py2.py3-none-any.whl").exists()
    finally:
        proxy.stop()
    assert _log(proxy)


def _log(proxy: Process) -> list[str]:
    proxy.stop()
    return (proxy.directory / "access.log").read_text().splitlines()


async def test_fifty_curls_one_fetch(tmp_path: Path, origin: Origin) -> None:
    origin.routes["/big"] = response(b"b" * 5_000_000, "Cache-Control: max-age=60")
    proxy = await offload(Process, tmp_path / "cache")
    url = origin.url("/big")

    async def one() -> bytes:
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-x", f"http://127.0.0.1:{proxy.port}", url, stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output

    try:
        for output in await asyncio.gather(*(one() for _ in range(50))):
            assert len(output) == 5_000_000
    finally:
        await offload(proxy.stop)
    assert origin.count() == 1

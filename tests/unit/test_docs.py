"""Documents tell the truth about names: every file they mention exists, every relative link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tikv_py.server.config import TikvConfig

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tikv_py/client/README.md", ROOT / "bench/RESULTS.md"]
)
TOP = (
    "core_py/",
    "tikv_py/",
    "pd_py/",
    "tidb_py/",
    "protos/",
    "tests/",
    "bench/",
    "docs/",
    "deploy/",
    "examples/",
    "tools/",
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_mentioned_files_and_links_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = [
        name
        for name in re.findall(r"`([A-Za-z0-9_./-]+)`", text)
        if name.startswith(TOP) and not (ROOT / name.split(":")[0]).exists()
    ]
    links = re.findall(r"\]\(([^)#\s]+)", text)
    missing += [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing, f"{path.name} mentions what is not there: {missing}"


def test_the_limits_name_settings_that_exist() -> None:
    text = (ROOT / "docs/architecture/limits.md").read_text(encoding="utf-8")
    named = re.findall(r"`(raftstore|server|storage|coprocessor)\.([a-z-]+)`", text)
    assert len(named) >= 12
    for section, key in named:
        config = getattr(TikvConfig(), section)
        assert hasattr(config, key.replace("-", "_")), f"{section}.{key}"

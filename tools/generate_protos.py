"""Regenerate the modules beside every .proto file, or with --check fail when one of them is stale.

Only messages and descriptors are generated (`_pb2.py`, `_pb2.pyi`): services are served from their descriptors by
core_py.runtime.rpc, so that no generated code imports grpc and the same handlers run on the memory transport.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> list[Path]:
    """Generate all modules under `out`; return their paths relative to it."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    include = str(resources.files("grpc_tools") / "_proto")
    code = protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}", *sources])
    if code:
        raise SystemExit(f"protoc failed with exit code {code}")
    for stub in out.rglob("*_pb2.pyi"):
        # An enum value called None is legal on the wire and not as a Python name; getattr reaches it.
        lines = stub.read_text(encoding="utf-8").splitlines(keepends=True)
        stub.write_text("".join(line for line in lines if not line.lstrip().startswith("None: ")), encoding="utf-8")
    return sorted(path.relative_to(out) for path in out.rglob("*_pb2.py*"))


def check() -> int:
    """Compare fresh output with the checked-in files; print each stale one."""
    with tempfile.TemporaryDirectory() as directory:
        fresh = generate(Path(directory))
        stale = [
            p for p in fresh if not (ROOT / p).exists() or (ROOT / p).read_bytes() != (Path(directory) / p).read_bytes()
        ]
    known = {path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*_pb2.py*") if "__pycache__" not in path.parts}
    for path in stale:
        print(f"stale: {path}; run `make protos` and commit the result")
    for path in sorted(known - set(fresh)):
        print(f"left over: {path}; its .proto file is gone")
    return 1 if stale or known != set(fresh) else 0


if __name__ == "__main__":
    sys.exit(check() if sys.argv[1:] == ["--check"] else 0 if generate(ROOT) else 1)

"""Task scopes: no task outlives its scope, no failure goes unseen."""

from __future__ import annotations

import asyncio

import pytest

from core_py.errors import InvariantViolation
from core_py.runtime import tasks
from core_py.runtime.tasks import TaskScope
from core_py.sim.loop import run_virtual


async def fails() -> None:
    raise ValueError("broken")


def test_close_ends_every_task_also_those_spawned_while_it_waits() -> None:
    ended: list[str] = []

    async def main() -> None:
        scope = TaskScope("test")

        async def stubborn() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(1)
                ended.append("stubborn")

        scope.spawn(stubborn())
        await asyncio.sleep(0)
        await scope.close()
        assert ended == ["stubborn"]
        assert len(scope) == 0
        late = fails()
        with pytest.raises(RuntimeError, match="is closed"):
            scope.spawn(late)

    run_virtual(main())


def test_a_failure_goes_to_the_owner_at_once() -> None:
    async def main() -> None:
        seen: list[BaseException] = []
        scope = TaskScope("test", on_failure=seen.append)
        scope.spawn(fails())
        await asyncio.sleep(0.1)
        assert [str(error) for error in seen] == ["broken"]
        await scope.close()

    run_virtual(main())


def test_a_failure_without_an_owner_is_raised_by_close_once() -> None:
    async def main() -> None:
        scope = TaskScope("test")
        scope.spawn(fails())
        scope.spawn(fails())
        await asyncio.sleep(0.1)
        with pytest.raises(ValueError, match="broken"):
            await scope.close()
        await scope.close()

    run_virtual(main())


def test_a_cancelled_task_is_no_failure() -> None:
    async def main() -> None:
        scope = TaskScope("test")
        task = scope.spawn(asyncio.sleep(10))
        task.cancel()
        await scope.join()
        await scope.close()

    run_virtual(main())


def test_a_broken_invariant_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[BaseException] = []
    monkeypatch.setattr(tasks, "stop_process", stopped.append)

    async def breaks() -> None:
        raise InvariantViolation("impossible")

    async def main() -> None:
        scope = TaskScope("test", on_failure=lambda _error: None)
        scope.spawn(breaks())
        await asyncio.sleep(0.1)
        await scope.close()

    run_virtual(main())
    assert [str(error) for error in stopped] == ["impossible"]


def test_a_task_may_close_its_own_scope() -> None:
    async def main() -> None:
        scope = TaskScope("test")
        other = scope.spawn(asyncio.sleep(1000))
        await scope.spawn(scope.close())
        assert other.cancelled()

    run_virtual(main())

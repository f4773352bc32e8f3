"""What the API answers when it refuses: status codes and texts of the public server."""

from __future__ import annotations

from typing import Any

from core_py.errors import DbError


class ApiError(Exception):
    """Ends a request with a status code and a JSON body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


class InvalidInput(ApiError):
    """The body or a path parameter is not what it should be: a JSON object with a code instead of a text."""

    def __init__(self, message: str) -> None:
        super().__init__(400, {"code": "input", "msg": message, "data": None})


ADD_OPERATOR = "PD:operator:ErrAddOperator"
ADD_OPERATOR_TEXT = "failed to add operator, maybe already have one"
"""The one text that the public server gives this code to; other refusals of operators have none."""


def text_of(code: str, message: str) -> str:
    """How the public server writes an error that has a code."""
    return f"[{code}]{message}"


def text_of_error(error: DbError) -> str:
    """The same of one of our errors; codes that the public server does not have are left out."""
    has_code = ":Err" in error.code and (error.code != ADD_OPERATOR or error.message == ADD_OPERATOR_TEXT)
    return text_of(error.code, error.message) if has_code else error.message


NOT_BOOTSTRAPPED = text_of("PD:cluster:ErrNotBootstrapped", "TiKV cluster not bootstrapped, please start TiKV first")
NO_LEADER = text_of("PD:apiutil:ErrRedirectNoLeader", "redirect finds no leader")
NOT_LEADER = text_of("PD:apiutil:ErrRedirectToNotLeader", "redirect to not leader")
REDIRECT_FAILED = text_of("PD:apiutil:ErrRedirect", "redirect failed")
LEADER_IS_NIL = text_of("PD:server:ErrLeaderNil", "leader is nil")
PLACEMENT_DISABLED = text_of("PD:placement:ErrPlacementDisabled", "placement rules feature is disabled")
RULE_NOT_FOUND = text_of("PD:placement:ErrRuleNotFound", "rule not found")
OPERATOR_NOT_FOUND = text_of("PD:operator:ErrOperatorNotFound", "operator not found")
SCHEDULER_NOT_FOUND = text_of("PD:scheduler:ErrSchedulerNotFound", "scheduler not found")
INVALID_REGION_ID = text_of("PD:region:ErrRegionInvalidID", "invalid region id")


def store_not_found(store_id: int) -> str:
    """There is no such store."""
    return text_of("PD:core:ErrStoreNotFound", f"store {store_id} not found")


def store_removed(store_id: int) -> str:
    """The store is a tombstone."""
    return text_of("PD:core:ErrStoreRemoved", f"store {store_id} has been removed")


def region_not_found(region_id: int | None) -> str:
    """There is no such region; None when it was looked for by key."""
    what = "%v" if region_id is None else str(region_id)
    return text_of("PD:region:ErrRegionNotFound", f"region {what} not found")

"""System variables: names, defaults, scopes, and the checks of SET.

Variables that drivers set and this server has no use for are accepted and kept. Unknown names are error 1193.
"""

from __future__ import annotations

from collections.abc import Callable

from core_py.vector.collate import IDS, NAMES
from tidb_py.errors import ReadOnlyVariable, UnknownCharset, UnknownCollation, UnknownVariable, WrongVariableValue
from tidb_py.mysql.constants import SERVER_VERSION

SQL_MODE = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_READ_ONLY = {
    "version": SERVER_VERSION, "version_comment": "TiDB-py Server (Apache License 2.0), MySQL 8.0 compatible",
    "hostname": "localhost", "port": "4000", "socket": "", "license": "Apache License 2.0", "lower_case_table_names": "2",
    "lower_case_file_system": "1", "system_time_zone": "UTC", "version_compile_os": "Linux", "have_ssl": "YES",
    "version_compile_machine": "x86_64", "protocol_version": "10", "have_openssl": "YES", "datadir": "/tmp/tidb",  # noqa: S108
    "server_id": "0", "server_uuid": "00000000-0000-0000-0000-000000000000", "tidb_current_ts": "0", "log_bin": "OFF",
    "warning_count": "0", "error_count": "0", "last_insert_id": "0", "identity": "0", "have_profiling": "NO",
    "tidb_server_memory_limit": "80%", "performance_schema": "OFF", "innodb_version": "8.0.11", "secure_file_priv": "",
}  # fmt: skip
_DEFAULTS = {
    "autocommit": "ON", "sql_mode": SQL_MODE, "time_zone": "SYSTEM", "transaction_isolation": "REPEATABLE-READ",
    "tx_isolation": "REPEATABLE-READ", "tx_isolation_one_shot": "", "transaction_read_only": "OFF",
    "tx_read_only": "OFF", "character_set_client": "utf8mb4", "character_set_connection": "utf8mb4",
    "character_set_results": "utf8mb4", "character_set_server": "utf8mb4", "character_set_database": "utf8mb4",
    "character_set_system": "utf8", "character_set_filesystem": "binary", "collation_connection": "utf8mb4_bin",
    "collation_server": "utf8mb4_bin", "collation_database": "utf8mb4_bin", "max_allowed_packet": "67108864",
    "wait_timeout": "28800", "interactive_timeout": "28800", "net_write_timeout": "60", "net_read_timeout": "30",
    "net_buffer_length": "16384", "max_execution_time": "0", "innodb_lock_wait_timeout": "50",
    "lock_wait_timeout": "31536000", "sql_safe_updates": "OFF", "sql_auto_is_null": "OFF",
    "foreign_key_checks": "ON", "unique_checks": "ON", "default_storage_engine": "InnoDB",
    "default_tmp_storage_engine": "InnoDB", "sql_select_limit": "18446744073709551615",
    "auto_increment_increment": "1", "auto_increment_offset": "1", "max_connections": "0", "sql_log_bin": "ON",
    "sql_warnings": "OFF", "sql_notes": "ON", "sql_quote_show_create": "ON", "sql_big_selects": "ON",
    "big_tables": "OFF", "group_concat_max_len": "1048576", "div_precision_increment": "4",
    "explicit_defaults_for_timestamp": "ON", "init_connect": "", "local_infile": "ON", "long_query_time": "10",
    "max_join_size": "18446744073709551615", "max_prepared_stmt_count": "-1", "max_sort_length": "1024",
    "profiling": "OFF", "query_cache_size": "0", "query_cache_type": "OFF", "tmp_table_size": "16777216",
    "default_authentication_plugin": "mysql_native_password", "default_week_format": "0",
    "information_schema_stats_expiry": "86400", "cte_max_recursion_depth": "1000", "session_track_gtids": "OFF",
    "session_track_schema": "ON", "timestamp": "", "optimizer_switch": "index_merge=on",
    "optimizer_trace": "enabled=off,one_line=off", "slow_query_log": "OFF", "tidb_txn_mode": "pessimistic",
    "tidb_distsql_scan_concurrency": "15", "tidb_index_lookup_size": "20000", "tidb_retry_limit": "10",
    "tidb_disable_txn_auto_retry": "ON", "tidb_opt_agg_push_down": "OFF", "tidb_enable_clustered_index": "ON",
    "tidb_mem_quota_query": "1073741824", "tidb_snapshot": "", "tidb_skip_isolation_level_check": "ON",
    "tidb_analyze_version": "2", "tidb_ddl_reorg_worker_cnt": "4", "tidb_ddl_reorg_batch_size": "256",
    "tidb_max_chunk_size": "1024", "tidb_init_chunk_size": "32", "tidb_row_format_version": "2",
    "tidb_constraint_check_in_place": "OFF", "tidb_batch_insert": "OFF", "tidb_dml_batch_size": "0",
    "tidb_build_stats_concurrency": "2", "tidb_checksum_table_concurrency": "4", "tidb_allow_mpp": "ON",
    "tidb_enable_1pc": "ON", "tidb_enable_async_commit": "ON", "tidb_hash_join_concurrency": "-1",
    "tidb_isolation_read_engines": "tikv,tiflash,tidb", "tidb_replica_read": "leader",
    "tidb_slow_log_threshold": "300", "tidb_enable_prepared_plan_cache": "ON", "tidb_config": "", "rand_seed1": "0",
    "rand_seed2": "0", "completion_type": "NO_CHAIN", "block_encryption_mode": "aes-128-ecb", "old_passwords": "0",
}  # fmt: skip
_BOOLEANS = frozenset(n for n, v in _DEFAULTS.items() if v in ("ON", "OFF"))
_NUMBERS = frozenset(n for n, v in _DEFAULTS.items() if v.lstrip("-").isdigit())
_LEVELS = frozenset({"READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"})


class SystemVariables:
    """The variables of one session over the server's global ones."""

    def __init__(self, server: dict[str, str]) -> None:
        self._global = server
        self._session: dict[str, str] = {}
        self.dynamic: dict[str, Callable[[], str]] = {}

    def known(self, name: str) -> bool:
        """Whether there is such a variable."""
        return name in _DEFAULTS or name in _READ_ONLY

    def get(self, name: str, scope: str = "") -> str:
        """The value of a variable."""
        name = name.lower()
        if scope != "global" and name in self.dynamic:
            return self.dynamic[name]()
        if name in _READ_ONLY:
            return self._global.get(name, _READ_ONLY[name])
        if name not in _DEFAULTS:
            raise UnknownVariable(f"Unknown system variable '{name}'")
        if scope != "global" and name in self._session:
            return self._session[name]
        return self._global.get(name, _DEFAULTS[name])

    def is_number(self, name: str) -> bool:
        """Whether SELECT @@name gives a number."""
        lowered = name.lower()
        return (
            lowered in _NUMBERS
            or lowered in _BOOLEANS
            or lowered in ("warning_count", "error_count", "last_insert_id", "port")
        )

    def is_boolean(self, name: str) -> bool:
        """Whether the variable is ON or OFF."""
        return name.lower() in _BOOLEANS

    def set(self, name: str, value: str | None, scope: str) -> str:
        """SET; None is DEFAULT. Returns the value kept."""
        name = name.lower()
        if name in _READ_ONLY:
            raise ReadOnlyVariable(f"Variable '{name}' is a read only variable")
        if name not in _DEFAULTS:
            raise UnknownVariable(f"Unknown system variable '{name}'")
        kept = _DEFAULTS[name] if value is None else _checked(name, value)
        target = self._global if scope == "global" else self._session
        target[name] = kept
        pair = {"tx_isolation": "transaction_isolation", "transaction_isolation": "tx_isolation"}.get(name)
        if pair:
            target[pair] = kept
        return kept

    def reset(self) -> None:
        """Forget everything set in this session."""
        self._session.clear()

    def names(self) -> list[str]:
        """All variables."""
        return sorted({*_DEFAULTS, *_READ_ONLY})


def _checked(name: str, value: str) -> str:
    if name in _BOOLEANS:
        upper = value.upper()
        if upper in ("1", "ON", "TRUE"):
            return "ON"
        if upper in ("0", "OFF", "FALSE"):
            return "OFF"
        raise WrongVariableValue(f"Variable '{name}' can't be set to the value of '{value}'")
    if name in _NUMBERS and not value.lstrip("-").isdigit():
        raise WrongVariableValue(f"Incorrect argument type to variable '{name}'")
    if name in ("transaction_isolation", "tx_isolation") and value.upper() not in _LEVELS:
        raise WrongVariableValue(f"Variable '{name}' can't be set to the value of '{value}'")
    if name.startswith("collation_") and value.lower() not in IDS and value.lower() not in NAMES.values():
        raise UnknownCollation(f"Unknown collation: '{value}'")
    if name.startswith("character_set_") and value.upper() not in ("NULL", "") and name != "character_set_filesystem":
        if value.lower() not in ("utf8mb4", "utf8", "utf8mb3", "latin1", "ascii", "binary", "gbk"):
            raise UnknownCharset(f"Unknown character set: '{value}'")
        return value.lower()
    if name in ("sql_mode", "transaction_isolation", "tx_isolation"):
        return value.upper()
    return value

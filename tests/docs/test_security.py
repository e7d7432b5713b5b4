"""Every sentence of docs/guides/security.md that has a mark is held by the tests that are named here."""

from __future__ import annotations

import re

import pytest
from documents import ROOT, prose

PAGE = ROOT / "docs" / "guides" / "security.md"
MARK = re.compile(r"^- \*\*(S\d+)\*\* ", re.MULTILINE)

LIVENESS = "storage/test_owner_liveness.py"
NOTIFIER = "storage/test_notifier_strangers.py"
MODES = "storage/test_sqlite_permissions.py"
TRUST = "serializers/test_serializers_trust.py"
TERMINAL = "cli/test_cli_escaping.py"
LOGS = "runtime/test_logs.py"
ROWS = "crash/test_app_bad_rows.py"
TESTS = {
    "S1": [
        f"{MODES}::test_a_new_database_is_for_its_user_only",
        f"{MODES}::test_there_is_no_moment_at_which_others_can_open_it",
    ],
    "S2": [
        f"{MODES}::test_a_new_database_has_the_mode_that_was_asked_for",
        f"{MODES}::test_a_file_that_exists_keeps_its_mode",
    ],
    "S3": [
        f"{LIVENESS}::test_folder_and_files_are_for_their_user_only",
        f"{LIVENESS}::test_users_who_may_write_the_database_take_part",
        f"{LIVENESS}::test_the_folder_of_an_older_release_is_tightened",
    ],
    "S4": [
        f"{LIVENESS}::test_a_folder_of_another_user_is_refused",
        f"{LIVENESS}::test_a_folder_that_is_a_link_is_refused",
        "storage/test_postgres_begun.py::test_a_folder_that_others_can_change_is_not_used",
    ],
    "S5": [f"{LIVENESS}::test_a_missing_or_false_lock_file_is_no_proof_of_death"],
    "S6": [
        f"{LIVENESS}::test_a_lock_of_a_reader_does_not_delay_recovery",
        f"{LIVENESS}::test_a_start_does_not_wait_for_a_lock_that_another_program_holds",
    ],
    "S7": [
        "crash/test_owner_folder.py::test_the_folder_is_deleted_under_living_processes",
        f"{LIVENESS}::test_an_owner_makes_its_lock_again",
    ],
    "S8": [f"{NOTIFIER}::test_the_address_in_the_row_has_the_secret_and_the_name_of_the_socket_has_not"],
    "S9": [
        f"{NOTIFIER}::test_a_wake_up_without_the_secret_is_dropped",
        f"{NOTIFIER}::test_strangers_cannot_fill_the_queue",
    ],
    "S10": [
        f"{NOTIFIER}::test_drain_takes_a_bounded_number",
        f"{NOTIFIER}::test_a_flood_does_not_stop_the_event_loop",
    ],
    "S11": ["storage/test_sqlite_owners.py::test_anything_may_come_out_of_the_socket"],
    "S12": [f"{NOTIFIER}::test_what_is_no_address_of_a_notifier_is_not_sent_to"],
    "S13": ["lifecycle/test_unknown_tasks.py::test_jobs_of_unknown_tasks_are_kept_and_reported"],
    "S14": [
        f"{TRUST}::test_no_row_imports_a_module",
        f"{TRUST}::test_what_the_app_has_named_is_imported",
        f"{TRUST}::test_types_of_the_app_and_of_its_main_module_are_found",
    ],
    "S15": [f"{TRUST}::test_what_is_no_data_class_is_refused"],
    "S16": [
        f"{TRUST}::test_a_dataclass_is_put_back_field_by_field",
        f"{TRUST}::test_an_enum_is_looked_up_and_not_called",
        f"{TRUST}::test_a_metaclass_is_not_asked",
        f"{TRUST}::test_a_property_is_not_set",
        f"{TRUST}::test_a_lazy_module_stays_lazy",
    ],
    "S17": [f"{TRUST}::test_the_exceptions_of_a_stored_retry_are_found_and_not_imported"],
    "S18": [f"{ROWS}::test_arguments_that_cannot_be_read", f"{ROWS}::test_words_that_mean_nothing"],
    "S19": [f"{LIVENESS}::test_a_name_in_a_row_leads_to_no_other_file"],
    "S20": ["serializers/test_serializers_trust.py::test_a_child_process_is_told_by_the_app_what_to_run"],
    "S21": ["serializers/test_serializers_plain.py::test_pickle_warns_and_restores_nearly_everything"],
    "S22": [
        f"{TERMINAL}::test_no_command_lets_them_through",
        f"{TERMINAL}::test_the_screen_of_top",
        f"{TERMINAL}::test_what_is_escaped_and_what_is_not",
    ],
    "S23": [f"{TERMINAL}::test_json_still_says_the_same"],
    "S24": [f"{TERMINAL}::test_errors_of_commands"],
    "S25": [
        f"{LOGS}::test_every_logger_of_the_library_escapes",
        f"{LOGS}::test_no_argument_of_any_record_forges_a_line",
        f"{LOGS}::test_a_record_keeps_what_is_printable",
        f"{LOGS}::test_failures_that_repeat_are_escaped",
    ],
    "S26": [f"{LOGS}::test_the_lines_of_a_traceback_are_indented"],
    "S27": [f"{LOGS}::test_extra_attributes_and_named_arguments_are_escaped"],
    "S28": [f"{TERMINAL}::test_the_log_of_a_worker"],
}


def test_every_promise_of_the_page_has_its_tests() -> None:
    assert sorted(MARK.findall(prose(PAGE))) == sorted(TESTS)


@pytest.mark.parametrize("mark", TESTS)
def test_the_tests_of_a_promise_exist(mark: str) -> None:
    for name in TESTS[mark]:
        path, _, function = name.partition("::")
        assert re.search(
            rf"^(?:async )?def {function}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE
        ), name

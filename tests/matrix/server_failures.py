"""Failures of servers as they are: late and odd answers, words that are not final, endings."""

from tests.matrix.apart_failures import SIMULATION
from tests.matrix.failure import Failure

LATE_ANSWERS = (
    Failure(
        73,
        "an answer that comes after the deadline is thrown away, the rotation with it",
        "G3",
        (
            "domain/test_schedule.py::test_where_a_lost_answer_costs_the_grant_there_is_time",
            "domain/test_schedule.py::test_a_window_without_room_for_a_replay_is_none",
            SIMULATION,
        ),
        limit="one that takes more than 90 s, or comes while as many others are late as there "
        "are workers, is given up; its request may still be under way (G2)",
    ),
    Failure(
        74,
        "name, connection and handshake use up the time that the answer needs",
        "G3",
        (
            "oauth/test_kept_alive.py::test_a_slow_handshake_takes_nothing_from_the_deadline",
            "oauth/test_not_sent.py::test_a_hanging_handshake_sends_nothing",
        ),
    ),
    Failure(
        75,
        "the peer has gone without a word, and the retry takes the next stale connection",
        "G3 G7",
        (
            "oauth/test_kept_alive.py::test_after_silence_older_connections_are_not_used",
            "oauth/test_kept_alive.py::test_a_connection_that_may_be_dead_warns_before_its_deadline",
        ),
    ),
    Failure(
        76,
        "bytes left over on a connection are taken for the answer to another grant",
        "G3 G5",
        (
            "oauth/test_kept_alive.py::test_bytes_after_an_answer_answer_no_other_request",
            "oauth/test_kept_alive.py::test_bytes_on_an_idle_connection_answer_no_request",
            "oauth/test_kept_alive.py::test_what_the_loop_has_not_seen_yet_is_nobodys_answer",
        ),
    ),
)

ODD_ANSWERS = (
    Failure(
        77,
        "the HTTP library refuses an answer that other clients read, and the tokens are gone",
        "G3",
        (
            "oauth/test_odd_http.py::test_an_odd_answer_is_adopted",
            "oauth/test_framing_damage.py::test_no_damage_to_the_framing_loses_a_token",
            "oauth/test_wire.py::test_what_cannot_be_read_is_kept",
        ),
    ),
    Failure(
        78,
        "the tokens come compressed without a word, after a notice, in an array, in a text",
        "G3",
        (
            "oauth/test_search.py::test_no_envelope_hides_tokens",
            "oauth/test_search.py::test_whatever_the_envelopes_tokens_are_adopted_or_kept",
            "oauth/test_search.py::test_the_standard_place_decides_alone",
        ),
    ),
    Failure(
        79,
        "what was found in an odd answer is no refresh token, or another grant's",
        "G3",
        (
            "vault/test_apart.py::test_a_find_that_is_refused_gives_its_predecessor_one_more_try",
            "domain/test_failures.py::test_what_a_search_found_has_to_prove_itself",
            "oauth/test_search.py::test_what_nobody_can_choose_is_kept",
        ),
    ),
    Failure(
        80,
        "the texts null and undefined, or the refresh token presented, are taken for a new one",
        "G3",
        (
            "oauth/test_answers.py::test_a_text_that_says_nothing_is_no_token",
            "oauth/test_search.py::test_a_repeated_refresh_token_does_not_rotate",
            "oauth/test_search.py::test_an_echo_beside_an_error_proves_nothing",
        ),
    ),
    Failure(
        81,
        "a whole answer that nobody can read is replayed at once, which ends what it held",
        "G3",
        (
            "vault/test_apart.py::test_a_whole_answer_that_nobody_reads_is_kept_and_deferred",
            "domain/test_failures.py::test_an_answer_that_may_hold_tokens_is_not_asked_for_at_once",
            "oauth/test_search.py::test_a_success_nobody_reads_may_hold_tokens",
        ),
    ),
    Failure(
        82,
        "a commit hangs, and the answer is in memory alone until the process is killed",
        "G3",
        (
            "engine/test_durability.py::test_a_commit_that_hangs_has_its_answer_rescued",
            "vault/test_rescue.py::test_every_answer_that_can_be_open_has_room",
            "system/test_answers_under_fault.py::test_a_disk_that_fails_costs_no_answer",
        ),
        limit="an answer whose last byte came within the last 2.5 s before a kill",
    ),
    Failure(
        83,
        "a batch whose commit never ran is reported as durable to those who shared it",
        "G3",
        (
            "vault/test_database.py::test_a_commit_that_breaks_is_believed_by_nobody",
            "vault/test_database.py::test_a_thread_that_takes_nothing_is_told_to_everyone",
            "system/test_answers_under_fault.py::test_threads_that_cannot_start_cost_nobody_anything",
        ),
    ),
    Failure(
        84,
        "the disk hangs in a write of the event loop, and everything stands still",
        "G7 G8",
        (
            "engine/test_durability.py::test_the_loop_turns_while_the_rescue_file_hangs_too",
            "vault/test_rescue.py::test_a_disk_that_hangs_is_told_apart_and_delays_nothing",
            "system/test_answers_under_fault.py::test_a_daemon_whose_disk_hangs_can_be_stopped",
        ),
    ),
    Failure(
        85,
        "the scheduler no longer turns, and the process lives on as if it worked",
        "G1 G7",
        (
            "engine/test_stall.py::test_it_ends_after_ten_minutes",
            "engine/test_stall.py::test_it_never_ends_while_an_answer_could_die_with_it",
            "ops/test_health.py::test_a_failing_vault_is_unready_not_dead",
        ),
    ),
    Failure(
        86,
        "an echo of an earlier answer is dated by the attempt that brought it",
        "G1",
        (
            "domain/test_new_tokens.py::test_tokens_are_dated_by_what_they_may_be_an_echo_of",
            "domain/test_new_tokens.py::test_an_echo_is_no_older_than_the_grace_window",
            "domain/test_new_tokens.py::test_a_jwt_dates_itself_where_nothing_would_be_left",
        ),
    ),
    Failure(
        87,
        "the end of a token comes as an instant, a date or under another name, and is not read",
        "G1",
        (
            "oauth/test_ends.py::test_an_instant_is_understood",
            "oauth/test_ends.py::test_what_is_not_understood_is_said",
            "oauth/test_ends.py::test_a_servers_clock_does_not_matter",
        ),
    ),
)

FINAL_WORDS = (
    Failure(
        88,
        "the server says invalid_grant to everybody for minutes, and every account is lost",
        "G6 G7",
        (
            "domain/test_schedule.py::test_a_refusal_is_final_after_half_an_hour_and_a_witness",
            "vault/test_apart.py::test_three_doubts_within_ten_minutes_are_an_incident",
            SIMULATION,
        ),
        limit="seeds never served, and grants with an exchange open, are lost by one refusal",
    ),
    Failure(
        89,
        "a refresh token that was wrongly given up is still good, and nothing sends it again",
        "G6",
        (
            "system/test_lost_again.py::test_what_a_server_wrongly_rejected_comes_back",
            "system/test_lost_again.py::test_a_second_refusal_leaves_everything_as_it_was",
            "vault/test_apart.py::test_lost_grants_are_asked_for_the_one_served_last_first",
        ),
    ),
    Failure(
        90,
        "a doubted grant is asked for without end, at each restart and each step of a clock",
        "G6 G7",
        (
            "domain/test_schedule.py::test_a_doubted_grant_is_never_asked_for_early",
            "vault/test_apart.py::test_doubts_outlive_the_process",
            "vault/test_clock.py::test_a_doubted_grant_keeps_its_questions",
        ),
    ),
    Failure(
        91,
        "a refusal whose description says later, already being processed, ends the grant",
        "G6 G7",
        (
            "oauth/test_descriptions.py::test_each_saying_means_one_thing",
            "oauth/test_descriptions.py::test_a_description_is_found_wherever_it_stands",
            "oauth/test_descriptions.py::test_what_only_a_person_can_answer_says_so",
        ),
    ),
    Failure(
        92,
        "a refusal for being too early is counted against the grant and its client",
        "G1 G8",
        (
            "domain/test_failures.py::test_a_refresh_that_came_too_early_is_nobodys_failure",
            "domain/test_new_tokens.py::test_a_window_is_learned_from_a_refusal_and_a_success",
            "domain/test_schedule.py::test_tries_for_an_early_refresh_halve_what_is_left",
        ),
    ),
    Failure(
        93,
        "the word of a gateway is taken for the server's: the exchange counts as answered",
        "G3",
        (
            "domain/test_failures.py::test_a_gateways_word_leaves_the_exchange_open_in_name_only",
            "domain/test_failures.py::test_a_refusal_that_goes_on_without_a_word_is_told",
            "oauth/test_error_codes.py::test_a_gateways_words_end_no_grant",
        ),
    ),
    Failure(
        94,
        "a state is red, and nobody can tell why or what helps",
        "G6",
        (
            "domain/test_repairs.py::test_every_state_but_fresh_has_something_that_helps",
            "domain/test_repairs.py::test_a_repair_names_what_to_touch",
            "settings/test_contradictions.py::test_what_can_never_work_is_a_problem",
        ),
    ),
    Failure(
        95,
        "a paused grant is sent again by a restart, and no operator has said so",
        "G3",
        (
            "domain/test_failures.py::test_a_pausing_client_pauses_the_unknown",
            SIMULATION,
        ),
    ),
)

ENDINGS = (
    Failure(
        96,
        "revoke beside an exchange in flight: its successor lives on at the provider",
        "G6",
        (
            "system/test_revoking.py::test_revoke_waits_for_an_exchange_and_revokes_what_it_brings",
            "engine/test_revoking.py::test_no_successor_lives_on_in_any_order",
            SIMULATION,
        ),
        limit="what an answer that was lost had brought, nobody can name to the server",
    ),
    Failure(
        97,
        "the provider is away when an authorization is revoked, and nobody asks again",
        "G6 G7",
        (
            "system/test_revoking.py::test_a_server_that_is_away_is_asked_again",
            "system/test_revoking.py::test_the_next_daemon_revokes_what_a_killed_one_decided",
            "engine/test_revoking.py::test_what_comes_to_its_end_is_told_and_dropped",
        ),
    ),
    Failure(
        98,
        "a late answer of a removed grant is revoked, though somebody else lives by it",
        "G3 G8",
        (
            "system/test_revoking.py::test_remove_keeps_what_comes_late_and_says_so",
            "vault/test_revocations.py::test_no_other_orphan_is_ever_revoked",
            SIMULATION,
        ),
    ),
)

"""Failures of reading answers, of time and scheduling, of publication and secrecy."""

from tests.matrix.failure import Failure

CLASSIFICATION = (
    Failure(
        32,
        "a rejected refresh token is sent again and again, thousands of times",
        "G6",
        (
            "system/test_endpoint_faults.py::test_a_dead_refresh_token_is_sent_once",
            "vault/test_seeds.py::test_a_rejected_refresh_token_is_taken_from_nobody",
            "vault/test_requests.py::test_a_dead_refresh_token_is_never_requested",
        ),
    ),
    Failure(
        33,
        "a rejection that a newer answer has overtaken ends a living grant",
        "G3 G6",
        (
            "vault/test_commit_rule.py::test_an_unapplied_later_failure_ends_the_lease",
            "vault/test_commit_rule.py::test_a_failure_of_an_outdated_attempt_is_void",
            "test_simulation.py::test_no_fault_violates_a_guarantee",
        ),
    ),
    Failure(
        34,
        "a server says invalid_grant in passing, and the grant is thrown away",
        "G6 G7",
        (
            "domain/test_failures.py::test_a_grant_that_was_served_is_doubted_before_it_is_dead",
            "domain/test_failures.py::test_a_doubt_ends_with_time_and_a_witness",
            "domain/test_failures.py::test_without_rotation_a_rejection_is_confirmed",
        ),
        limit="after an exchange without an answer one wrong refusal is believed; "
        "`refresher refresh --lost` asks once more",
    ),
    Failure(
        35,
        "an outage, a throttle or a name that does not resolve ends the grant",
        "G1 G7",
        (
            "system/test_endpoint_faults.py::test_refusals_that_mean_nothing_cost_nothing",
            "oauth/test_error_codes.py::test_a_gateways_words_end_no_grant",
            "oauth/test_not_sent.py::test_an_unknown_host_sends_nothing",
        ),
    ),
    Failure(
        36,
        "a grant is dead, and nobody hears of it for weeks",
        "G6",
        (
            "system/test_survilla.py::test_a_login_ends_the_doubt_of_a_revoked_authorization",
            "engine/test_lines.py::test_a_lost_grant_is_announced_with_its_repair",
            "engine/test_lines.py::test_doubts_and_kept_answers_are_said",
        ),
    ),
    Failure(
        37,
        "a client secret that is wrong ends every grant of the client",
        "G6 G7",
        (
            "system/test_storm.py::test_a_crowd_waits_its_turn",
            "domain/test_failures.py::test_what_is_not_the_grants_fault_keeps_it",
            "engine/test_admission.py::test_probes_of_a_rejected_client_take_turns_and_grow_rare",
        ),
    ),
    Failure(
        38,
        "invalid_request is believed, though the server only wants to be asked again",
        "G7",
        (
            "domain/test_failures.py::test_an_odd_word_is_believed_after_ten_minutes",
            "oauth/test_responses.py::test_each_answer_has_one_outcome",
        ),
    ),
    Failure(
        39,
        "an error that comes with status 200 is taken for success",
        "G1 G6",
        (
            "oauth/test_responses.py::test_each_answer_has_one_outcome",
            "oauth/test_outcome_table.py::test_each_row_is_what_the_code_does",
        ),
    ),
    Failure(
        40,
        "a page, a form or an empty body comes instead of JSON",
        "G3 G7",
        (
            "system/test_endpoint_faults.py::test_refusals_that_mean_nothing_cost_nothing",
            "oauth/test_responses.py::test_tokens_are_read_from_any_dress",
            "oauth/test_mutations.py::test_damage_neither_raises_nor_shows_a_token",
        ),
    ),
    Failure(
        41,
        "a 403 that only means too many requests ends the grant",
        "G7",
        (
            "system/test_endpoint_faults.py::test_refusals_that_mean_nothing_cost_nothing",
            "oauth/test_responses.py::test_each_answer_has_one_outcome",
        ),
    ),
    Failure(
        42,
        "a Retry-After is ignored, or kept by one grant of many",
        "G7",
        (
            "system/test_storm.py::test_a_crowd_waits_its_turn",
            "oauth/test_responses.py::test_retry_after_is_read_and_capped",
            "engine/test_admission.py::test_a_retry_after_closes_the_endpoint",
        ),
    ),
    Failure(
        43,
        "a server has its own names and statuses for a rejection",
        "G6 G7",
        (
            "oauth/test_error_codes.py::test_every_vendors_way_is_known",
            "oauth/test_responses.py::test_the_clients_own_lists_come_first",
        ),
    ),
    Failure(
        44,
        "a redirect is followed: the refresh token is sent elsewhere, or the POST is lost",
        "G3 G5",
        (
            "oauth/test_connections.py::test_a_redirect_is_not_followed",
            "system/test_secrecy_under_fault.py::test_no_fault_brings_a_secret_out",
        ),
    ),
)

TIME = (
    Failure(
        45,
        "expires_in is missing, and the token is never refreshed",
        "G1",
        (
            "domain/test_new_tokens.py::test_a_missing_life_is_assumed",
            "oauth/test_answers.py::test_a_jwt_tells_its_own_lifetime",
            "publication/test_publisher.py::test_every_token_key_ends_unless_static",
        ),
    ),
    Failure(
        46,
        "expires_in is a string, a fraction, zero, huge, no number, or in another unit",
        "G1",
        (
            "oauth/test_answers.py::test_a_lifetime_may_be_written_variously",
            "oauth/test_answers.py::test_an_absurd_lifetime_is_doubted",
            "oauth/test_answers.py::test_a_server_may_count_in_milliseconds",
        ),
    ),
    Failure(
        47,
        "the margin is longer than the token lives: a refresh at every turn",
        "G7",
        (
            "domain/test_schedule.py::test_a_lead_never_takes_half_the_life",
            "domain/test_new_tokens.py::test_a_tiny_life_is_no_hot_loop",
            "system/test_time_faults.py::test_one_second_tokens_are_never_readable_too_long",
        ),
    ),
    Failure(
        48,
        "the server gives out the same token again, and a hot loop begins",
        "G7",
        (
            "domain/test_new_tokens.py::test_the_same_token_again_backs_off",
            "domain/test_invariants.py::test_failures_never_become_a_hot_loop",
        ),
    ),
    Failure(
        49,
        "without a margin the token ends on its way, or by a clock that differs",
        "G1",
        (
            "engine/test_refresh.py::test_expiry_counts_from_the_send",
            "system/test_redis_away.py::test_a_server_that_stood_still_shows_nothing_that_ended",
            "system/test_redis_clocks.py::test_a_redis_on_another_clock_keeps_no_token_longer",
        ),
    ),
    Failure(
        50,
        "timers stand still while the machine sleeps, and tokens end unnoticed",
        "G1",
        (
            "system/test_time_faults.py::test_a_suspended_machine_refreshes_everything_once_it_resumes",
            "engine/test_watch.py::test_a_suspended_machine_wakes_the_scheduler",
            "engine/test_watch.py::test_the_watch_looks_by_itself",
        ),
    ),
    Failure(
        51,
        "an instant of the server's clock is compared with the local one",
        "G1",
        (
            "oauth/test_answers.py::test_a_jwt_tells_its_own_lifetime",
            "system/test_redis_clocks.py::test_a_redis_on_another_clock_keeps_no_token_longer",
            "system/test_time_faults.py::test_a_stepped_clock_costs_one_refresh_at_most",
        ),
        "a JWT's end is read only where expires_in is missing",
    ),
    Failure(
        52,
        "after a restart, or all issued together, every grant is refreshed at once",
        "G7",
        (
            "system/test_storm.py::test_a_crowd_waits_its_turn",
            "domain/test_schedule.py::test_draws_spread_refreshes",
            "engine/test_scheduler.py::test_exchanges_in_flight_are_bounded",
        ),
    ),
    Failure(
        53,
        "a refresh token reaches its own end, or dies of not being used, unannounced",
        "G6",
        (
            "engine/test_watch.py::test_an_end_is_announced_three_times",
            "domain/test_new_tokens.py::test_an_idle_life_is_kept_awake",
            "domain/test_new_tokens.py::test_the_known_end_of_a_refresh_token_is_kept",
        ),
    ),
    Failure(
        54,
        "one exception ends the loop, and nothing is refreshed until a restart",
        "G1 G7",
        (
            "engine/test_scheduler.py::test_the_loop_outlives_its_own_bugs",
            "engine/test_watch.py::test_overdue_grants_are_reported_once",
            "ops/test_systemd.py::test_a_standing_loop_starves_the_watchdog",
        ),
    ),
    Failure(
        55,
        "a refresh that failed takes away a token that is still good",
        "G1 G7",
        (
            "system/test_endpoint_faults.py::test_refusals_that_mean_nothing_cost_nothing",
            "domain/test_invariants.py::test_every_outcome_keeps_the_invariants",
            "system/test_manners.py::test_a_standby_takes_over_at_once",
        ),
    ),
)

PUBLICATION = (
    Failure(
        56,
        "a refresh ends the token before it, and consumers go on with a copy",
        "G1 G4",
        (
            "system/test_ended_tokens.py::test_the_successor_of_an_ended_token_is_there_at_once",
            "publication/test_mirror.py::test_a_commit_is_published_at_once",
        ),
        "a consumer that keeps a copy is refused until it reads again",
    ),
    Failure(
        57,
        "a subscriber that was away misses the message of a new token",
        "G4",
        (
            "publication/test_client.py::test_watch_goes_on_after_a_restart",
            "publication/test_client.py::test_watch_yields_each_version_once",
            "publication/test_publisher.py::test_the_events_come_back_after_a_flush",
        ),
    ),
    Failure(
        58,
        "tokens come out in logs, also in what a server echoes in its errors",
        "G5",
        (
            "system/test_secrecy_under_fault.py::test_no_fault_brings_a_secret_out",
            "oauth/test_secrecy.py::test_no_answer_makes_a_secret_show",
            "oauth/test_responses.py::test_an_unknown_code_is_never_repeated",
        ),
    ),
    Failure(
        59,
        "a refresh changes the scope without a word",
        "G3",
        (
            "oauth/test_token_endpoint.py::test_scope_is_sent_only_when_asked",
            "domain/test_new_tokens.py::test_a_narrowed_scope_is_told_until_all_of_it_is_granted",
        ),
        "no scope is asked for unless the settings say so",
    ),
    Failure(
        60,
        "what refreshes tokens needs one of those tokens itself, or its consumers",
        "G4 G7",
        (
            "test_contracts.py::test_every_import_contract_is_kept",
            "system/test_redis_faults.py::test_redis_may_come_after_the_daemon",
            "system/test_redis_faults.py::test_an_outage_stops_publication_only",
        ),
    ),
)

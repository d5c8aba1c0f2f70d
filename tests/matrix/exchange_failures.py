"""Failures of concurrent exchanges, and rotations that were lost or left unknown."""

from tests.matrix.failure import Failure

CONCURRENCY = (
    Failure(
        1,
        "two processes send the same refresh token, and the server revokes the family",
        "G2 G3",
        (
            "system/test_manners.py::test_a_second_daemon_names_the_first",
            "system/test_kills.py::test_no_kill_loses_a_grant",
            "vault/test_claims.py::test_racing_claims_share_no_grant",
        ),
    ),
    Failure(
        2,
        "whoever waited for a refresh sends the refresh token it read before waiting",
        "G2 G3",
        (
            "engine/test_refresh.py::test_the_request_carries_what_was_claimed",
            "vault/test_commit_rule.py::test_a_login_waits_for_the_exchange_it_voids",
            "vault/test_fence.py::test_a_stopped_holder_is_ended_in_the_end",
        ),
    ),
    Failure(
        3,
        "a request that comes just after a refresh has ended starts another one",
        "G2 G3",
        (
            "vault/test_rejections.py::test_a_request_about_an_older_version_is_ignored",
            "vault/test_rejections.py::test_consumers_requests_are_limited",
        ),
    ),
    Failure(
        4,
        "a lock runs out while the exchange it guards goes on",
        "G2",
        (
            "vault/test_claims.py::test_a_leased_grant_is_claimed_by_nobody",
            "vault/test_fence.py::test_a_stopped_holder_is_ended_in_the_end",
        ),
        "a lease has no time to live: it ends with its process",
    ),
    Failure(
        5,
        "a late holder releases the lock of its successor",
        "G2",
        (
            "vault/test_commit_rule.py::test_an_earlier_answer_leaves_the_later_lease",
            "vault/test_fence.py::test_a_process_that_holds_nothing_is_left_alone",
            "ops/test_control.py::test_a_successors_socket_is_left_alone",
        ),
    ),
    Failure(
        6,
        "whoever waits too long for the lock refreshes without it",
        "G2",
        (
            "vault/test_opening.py::test_a_second_opening_in_one_process_is_refused",
            "system/test_vault_under_fault.py::test_a_vault_locked_at_the_commit_delays_it",
            "system/test_manners.py::test_a_second_daemon_names_the_first",
        ),
    ),
    Failure(
        7,
        "a lock that cannot be had is reported as a rejected refresh token",
        "G6 G7",
        (
            "system/test_vault_under_fault.py::test_a_vault_locked_at_the_commit_delays_it",
            "engine/test_refresh.py::test_nothing_is_sent_when_a_claim_fails",
            "engine/test_scheduler.py::test_a_vaults_refusal_is_reported_once",
        ),
    ),
    Failure(
        8,
        "each of many waiters refreshes again after the first has done so",
        "G2 G7",
        (
            "vault/test_rejections.py::test_a_request_about_an_older_version_is_ignored",
            "vault/test_rejections.py::test_consumers_requests_are_limited",
            "vault/test_claims.py::test_a_leased_grant_is_claimed_by_nobody",
        ),
    ),
    Failure(
        9,
        "the mark of a running refresh stays, and its grant is never refreshed again",
        "G1 G7",
        (
            "engine/test_scheduler.py::test_a_bug_costs_one_grant_a_retry",
            "engine/test_refresh.py::test_a_broken_exchange_is_given_back",
            "vault/test_claims.py::test_leases_of_the_dead_are_released",
        ),
    ),
    Failure(
        10,
        "the loser of a race overwrites or deletes what the winner stored",
        "G3",
        (
            "vault/test_commit_rule.py::test_a_failure_of_an_outdated_attempt_is_void",
            "vault/test_commit_rule.py::test_an_earlier_answer_after_a_later_is_orphaned",
            "test_simulation.py::test_no_fault_violates_a_guarantee",
        ),
    ),
    Failure(
        11,
        "the lock lives in a store that forgets or disagrees after a failover",
        "G2 G4",
        (
            "test_contracts.py::test_every_import_contract_is_kept",
            "vault/test_opening.py::test_another_process_is_named",
            "system/test_redis_refusals.py::test_a_replica_after_a_failover",
        ),
        "no lock is in Redis: the vault cannot import it, and locks its own file",
    ),
    Failure(
        12,
        "two callers that want different scopes are given one and the same token",
        "G2",
        ("engine/test_refresh.py::test_the_request_carries_what_was_claimed",),
        "nobody passes a scope along with a request: it belongs to the grant",
    ),
    Failure(
        13,
        "a transaction stays open across the exchange and blocks everybody else",
        "G2 G7",
        (
            "engine/test_refresh.py::test_claim_send_commit_publish_in_order",
            "vault/test_seeds.py::test_labels_survive_an_exchange_in_flight",
            "system/test_manners.py::test_sighup_adds_without_dropping",
        ),
    ),
    Failure(
        14,
        "during a deployment the old and the new process both refresh",
        "G2 G3",
        (
            "vault/test_fence.py::test_a_stopped_holder_is_ended_in_the_end",
            "system/test_manners.py::test_a_standby_takes_over_at_once",
            "system/test_manners.py::test_a_second_daemon_names_the_first",
        ),
        "one machine works on a vault",
    ),
    Failure(
        15,
        "two environments, or a vault and its copy, hold the same refresh token",
        "G3 G6",
        (
            "system/test_commands.py::test_one_refresh_token_belongs_to_one_grant",
            "vault/test_backup.py::test_a_restored_copy_is_told_once",
            "domain/test_failures.py::test_a_rejection_after_a_restore_says_so",
        ),
        limit="two vaults cannot see each other: a copy is named, a second holder is not",
    ),
)

LOST_ROTATIONS = (
    Failure(
        16,
        "the server has rotated, and its answer is lost on the way",
        "G3",
        (
            "system/test_endpoint_faults.py::test_answers_that_got_lost_cost_no_grant",
            "system/test_boundaries.py::test_a_kill_at_any_boundary_loses_nothing_under_grace",
            "system/test_kills.py::test_no_kill_loses_a_grant",
        ),
        "under strict rotation it may cost a login, reported as rotation_lost",
    ),
    Failure(
        17,
        "the client gives up on a slow server that has already rotated",
        "G3 G7",
        (
            "domain/test_schedule.py::test_where_a_lost_answer_costs_the_grant_there_is_time",
            "system/test_endpoint_faults.py::test_answers_that_got_lost_cost_no_grant",
            "oauth/test_outcome_unknown.py::test_a_slow_server_leaves_it_unknown",
        ),
    ),
    Failure(
        18,
        "the replay comes after the grace window has closed",
        "G3",
        (
            "domain/test_schedule.py::test_a_prompt_replay_ends_inside_the_grace",
            "domain/test_schedule.py::test_after_its_grace_a_server_is_strict",
            "system/test_endpoint_faults.py::test_answers_that_got_lost_cost_no_grant",
        ),
    ),
    Failure(
        19,
        "a retrying library sends a single-use refresh token again and again",
        "G2 G3",
        (
            "domain/test_schedule.py::test_a_strict_server_gets_one_prompt_replay",
            "oauth/test_connections.py::test_an_idle_connection_closed_is_not_used",
            "domain/test_invariants.py::test_failures_never_become_a_hot_loop",
        ),
    ),
    Failure(
        20,
        "nothing is ever replayed, and a rotation is lost that one replay had saved",
        "G3",
        (
            "system/test_endpoint_faults.py::test_answers_that_got_lost_cost_no_grant",
            "system/test_kills.py::test_no_kill_loses_a_grant",
            "domain/test_schedule.py::test_replays_inside_a_grace_are_prompt",
        ),
    ),
    Failure(
        21,
        "for fear of a second send an unknown outcome is left unresolved for an hour",
        "G1 G3",
        (
            "domain/test_failures.py::test_recovery_is_the_unknown_outcome",
            "domain/test_schedule.py::test_a_replay_is_never_in_the_past",
            "system/test_boundaries.py::test_a_kill_at_any_boundary_loses_nothing_under_grace",
        ),
    ),
    Failure(
        22,
        "a caller that goes away cancels the exchange it asked for",
        "G3",
        (
            "engine/test_refresh.py::test_a_cancelled_refresh_ends_by_itself",
            "ops/test_control.py::test_an_operation_survives_its_command",
        ),
    ),
    Failure(
        23,
        "a shutdown closes the store before the answer in flight is written",
        "G3",
        (
            "system/test_manners.py::test_sigterm_waits_for_the_answer",
            "engine/test_scheduler.py::test_draining_waits_for_what_is_in_flight",
            "deploy/test_unit_file.py::test_stopping_waits_for_every_exchange",
        ),
    ),
    Failure(
        24,
        "the store refuses the write that should keep the new refresh token",
        "G3",
        (
            "system/test_vault_faults.py::test_a_full_disk_loses_nothing",
            "system/test_vault_under_fault.py::test_a_disk_that_takes_no_byte_is_outlived",
            "engine/test_recovery.py::test_a_process_that_died_refused_loses_nothing",
        ),
    ),
    Failure(
        25,
        "an answer is refused for another field, and its refresh token is dropped",
        "G3",
        (
            "oauth/test_responses_fuzz.py::test_no_company_loses_a_refresh_token",
            "oauth/test_responses.py::test_a_refresh_token_survives_bad_company",
            "engine/test_unread.py::test_a_mended_version_reads_the_answer",
        ),
    ),
    Failure(
        26,
        "another write fails first, and the refresh token is never written",
        "G3",
        (
            "engine/test_refresh.py::test_claim_send_commit_publish_in_order",
            "system/test_boundaries.py::test_a_kill_at_any_boundary_loses_nothing_under_grace",
            "system/test_redis_faults.py::test_an_outage_stops_publication_only",
        ),
    ),
    Failure(
        27,
        "an answer without a refresh token erases the one that is stored",
        "G3",
        (
            "vault/test_commit_rule.py::test_a_server_may_keep_the_refresh_token",
            "oauth/test_responses.py::test_an_empty_refresh_token_is_absent",
        ),
    ),
    Failure(
        28,
        "the next start takes the old refresh token of the settings for the current one",
        "G3 G6",
        (
            "vault/test_seeds.py::test_an_unchanged_seed_never_undoes_a_rotation",
            "vault/test_seeds.py::test_an_earlier_seed_is_not_taken_again",
            "vault/test_opening.py::test_everything_is_there_after_reopening",
        ),
    ),
    Failure(
        29,
        "a crash leaves half a file of refresh tokens, or an empty one",
        "G3",
        (
            "system/test_boundaries.py::test_a_kill_at_any_boundary_loses_nothing_under_grace",
            "vault/test_rescue.py::test_a_torn_write_is_never_half_believed",
            "system/test_vault_under_fault.py::test_a_damaged_vault_is_named_and_a_backup_helps",
        ),
    ),
    Failure(
        30,
        "the late answer to an earlier attempt replaces that to a later one",
        "G3 G4",
        (
            "vault/test_commit_rule.py::test_an_earlier_answer_after_a_later_is_orphaned",
            "vault/test_commit_rule.py::test_a_later_sent_answer_replaces_an_earlier",
            "publication/test_publisher.py::test_a_lower_version_never_overwrites",
        ),
    ),
    Failure(
        31,
        "a refresh token is presented that is two or more rotations old",
        "G3 G6",
        (
            "system/test_vault_under_fault.py::test_a_slow_disk_delays_and_blocks_nothing",
            "vault/test_seeds.py::test_what_a_grant_has_just_rotated_from_is_spent",
            "vault/test_commit_rule.py::test_an_answer_two_rotations_old_is_orphaned",
        ),
        "after a restore the copy's one may be: it is tried once, and named",
    ),
)

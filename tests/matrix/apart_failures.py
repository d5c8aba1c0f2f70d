"""Failures by which one grant, client, server, name or row takes away another grant's token."""

from tests.matrix.failure import Failure

SIMULATION = "test_simulation.py::test_no_fault_violates_a_guarantee"

HOSTILE = "on real processes: python -m tests.hostile"

APART = (
    Failure(
        61,
        "one account is refused with a word about the client, and all its grants expire",
        "G1 G8",
        (
            "engine/test_admission.py::test_one_word_against_a_client_is_settled_by_the_next_grant",
            "engine/test_admission.py::test_a_word_told_apart_asks_nobody_any_more",
            SIMULATION,
        ),
        HOSTILE,
    ),
    Failure(
        62,
        "a wrong client secret: every probe of it spends one more refresh token",
        "G3 G8",
        (
            "engine/test_admission.py::test_answers_to_what_was_out_before_are_no_evidence",
            "engine/test_admission.py::test_a_second_grant_refused_rejects_the_client",
            "engine/test_admission.py::test_probes_of_a_rejected_client_take_turns_and_grow_rare",
        ),
        limit="what is out when the first word comes, and one more, is spent at such a server",
    ),
    Failure(
        63,
        "grants that fail take all places of their client, and the living starve",
        "G1 G8",
        (
            "vault/test_apart.py::test_failing_grants_take_no_place_of_a_healthy_one",
            "engine/test_admission.py::test_failing_grants_have_an_eighth_and_never_none",
            "engine/test_admission.py::test_doubted_grants_share_one_place",
        ),
        HOSTILE,
    ),
    Failure(
        64,
        "the failures of some grants close the endpoint that serves the others",
        "G7 G8",
        (
            "engine/test_admission.py::test_grants_that_fail_while_others_are_served_close_no_endpoint",
            "engine/test_admission.py::test_who_closed_an_endpoint_probes_it_last",
            "vault/test_apart.py::test_who_goes_last_goes_alone_only_where_nobody_else_is_due",
        ),
        HOSTILE,
    ),
    Failure(
        65,
        "an endpoint is back, and what fails by itself comes back with the rest, all at once",
        "G7 G8",
        (
            "vault/test_apart.py::test_after_an_outage_only_what_the_endpoint_failed_is_hastened",
            "engine/test_admission.py::test_what_waited_for_an_endpoint_comes_at_its_pace",
            "vault/test_apart.py::test_nothing_becomes_later_by_being_hastened",
        ),
    ),
    Failure(
        66,
        "a server that answers slowly takes the workers of all others",
        "G1 G8",
        (
            "engine/test_admission.py::test_every_gate_has_a_worker_of_its_own",
            "vault/test_apart.py::test_every_gate_gets_its_own_place_and_then_a_share",
            "engine/test_scheduler.py::test_a_busy_client_does_not_stop_another",
        ),
        HOSTILE,
    ),
    Failure(
        67,
        "a server sends interim answers, header bytes or a body for ever",
        "G8",
        (
            "oauth/test_wire.py::test_interim_answers_are_few",
            "oauth/test_wire.py::test_what_never_ends_is_cut_at_the_cap",
            "oauth/test_wire.py::test_a_server_that_trickles_is_bounded_by_the_deadline",
        ),
        HOSTILE,
    ),
    Failure(
        68,
        "names that hang in the resolver stop every exchange of the process",
        "G1 G8",
        (
            "oauth/test_names.py::test_many_names_that_hang_stop_only_their_own",
            "oauth/test_names.py::test_a_process_that_starts_no_threads_any_more_still_resolves",
            "oauth/test_names.py::test_endpoints_whose_names_hang_stop_no_other",
        ),
        HOSTILE,
    ),
    Failure(
        69,
        "one row that cannot be read or written stops the refreshes of all others",
        "G1 G8",
        (
            "vault/test_damaged_rows.py::test_everybody_else_is_claimed",
            "engine/test_durability.py::test_a_row_damaged_in_mid_exchange_holds_up_nobody",
            "system/test_answers_under_fault.py::test_one_damaged_row_costs_nobody_else_anything",
        ),
    ),
    Failure(
        70,
        "out of file descriptors, and network and vault are blamed for it, again and again",
        "G7 G8",
        (
            "vault/test_database.py::test_a_lack_of_file_descriptors_is_told_as_that",
            "oauth/test_not_sent.py::test_without_descriptors_nothing_is_sent",
            "oauth/test_names.py::test_a_resolver_without_descriptors_says_so",
        ),
    ),
    Failure(
        71,
        "a client secret is replaced on disk and not read, and its grants expire",
        "G1 G8",
        (
            "system/test_replaced_secrets.py::test_the_secret_of_a_client",
            "app/test_secret_watch.py::test_the_folder_that_kubernetes_swaps_is_followed",
            "domain/test_failures.py::test_a_replaced_secret_is_tried_at_once",
        ),
    ),
    Failure(
        72,
        "TLS material or a password is replaced, and nothing connects until a restart",
        "G4 G7",
        (
            "oauth/test_trust.py::test_a_symlink_that_is_swapped_counts_at_once",
            "system/test_replaced_secrets.py::test_the_password_of_redis",
            "app/test_secret_watch.py::test_what_cannot_be_read_keeps_the_last_value",
        ),
    ),
)

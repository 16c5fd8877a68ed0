//! What every engine of the journal must keep: plain functions over something that opens one.

pub(super) mod about;
pub(super) mod accept;
pub(super) mod bounds;
pub(super) mod commands;
mod kit;
pub(super) mod letters;
pub(super) mod links;
pub(super) mod order;
pub(super) mod outbox;
pub(super) mod unreadable;

pub(super) use self::kit::*;

/// Makes a test of every promise for one engine: `$engine` is an expression that gives a fresh [`Engine`].
macro_rules! journal_suite {
    ($engine:expr) => {
        crate::store::suite::journal_suite!(@each $engine;
            about: [
                deletion_erases_what_is_queued_held_dead_waiting_or_unreadable,
                quotation_of_what_was_deleted_on_its_way_does_not_bring_its_words,
                deletion_of_what_is_missing_still_takes_effect_when_that_comes,
                edit_deletion_and_reaction_name_their_counterpart_in_both_directions,
                message_about_one_in_the_same_answer_waits_for_it,
                deletion_of_what_is_just_being_delivered_still_finds_it,
                edit_of_somebody_elses_message_is_a_dead_letter,
                newer_reaction_or_edit_takes_the_place_of_a_queued_one,
                files_are_named_as_long_as_their_message_is_needed,
            ];
            accept: [
                message_seen_twice_is_carried_once,
                message_goes_to_every_conversation_of_its_links,
                replayed_value_under_another_name_is_a_dead_letter_for_ever,
                what_was_said_before_there_was_a_link_is_no_news_afterwards,
                conversation_that_is_not_linked_leaves_nothing,
                store_is_written_with_its_batch_or_not_at_all,
                full_journal_takes_no_more_still_settles_and_goes_on_by_itself,
                parcel_is_opened_once_and_junk_is_a_dead_letter,
                failing_wish_does_not_fail_those_beside_it,
                conversation_that_begins_beside_a_failing_wish_is_kept,
                what_was_accepted_is_there_after_a_drop_without_close,
                stores_and_settings_are_apart,
                entries_that_are_too_old_or_too_many_are_forgotten,
                step_that_panics_fails_alone,
            ];
            order: [
                message_behind_a_gap_waits_until_it_is_filled,
                gap_within_a_gap_keeps_the_order,
                two_gaps_open_in_any_order,
                filling_goes_on_where_it_was_after_a_restart,
                message_written_before_the_link_does_not_cross_when_a_gap_is_filled,
                long_gap_is_routed_in_order_while_more_arrives,
                gap_offered_twice_is_one,
                waiting_message_of_a_conversation_that_is_not_linked_any_more_is_let_go_in_time,
            ];
            unreadable: [
                later_messages_of_the_sender_wait_and_others_do_not,
                key_that_comes_in_time_keeps_the_place,
                key_that_comes_late_marks_the_message_late,
                hold_that_is_over_never_lets_a_new_message_overtake,
                event_refused_on_trust_holds_nobody,
                event_that_still_waits_may_stop_holding,
                event_that_is_not_for_us_frees_what_waited,
                clock_that_is_moved_by_a_day_gives_up_nothing_and_holds_nobody_longer,
                event_past_its_time_is_a_dead_letter_that_can_be_retried,
                event_that_comes_again_readable_is_read,
                waiting_events_are_found_by_what_they_wait_for,
                late_event_read_from_a_gap_that_was_before_the_link_does_not_cross,
            ];
            outbox: [
                settled_message_leaves_only_a_line,
                postponed_delivery_keeps_its_place_and_counts,
                held_delivery_comes_back_to_its_old_place,
                reply_names_its_counterpart_in_both_directions_and_beside,
                reply_waits_for_its_counterpart_in_the_same_answer,
                echo_settles_what_nobody_was_sure_of,
                topic_is_said_once_for_ever,
                lanes_wake_when_something_is_new,
                every_lane_that_has_something_is_listed,
                old_lines_are_forgotten_and_the_rest_stays,
                head_goes_on_after_a_number,
            ];
            bounds: [
                dead_letters_of_one_sender_take_a_share_and_leave_room_for_others,
                dead_letters_beside_a_delivery_that_arrives_take_a_share,
                events_that_cant_be_read_of_one_sender_take_a_share,
                deletion_of_what_waits_gives_its_senders_share_back,
                dead_letter_is_let_go_in_time_and_leaves_its_reason,
                source_whose_words_cant_be_delivered_takes_a_share_and_leaves_room_for_others,
                sources_that_all_flood_take_less_each_and_leave_room_for_a_calm_one_and_for_people,
                share_comes_back_with_what_is_delivered_deleted_or_dead_over_a_restart_too,
            ];
            commands: [
                command_is_taken_once_and_carried_nowhere,
                command_that_was_begun_is_found_begun_and_begun_by_nobody_else,
                answer_is_enqueued_with_the_end_of_its_command_and_names_what_it_answers,
                replayed_command_is_not_taken_and_where_nothing_is_linked_neither,
                what_is_done_to_a_command_changes_nothing_and_crosses_nowhere,
                history_is_told_apart_and_a_key_that_comes_in_time_makes_a_command,
                key_that_comes_late_makes_a_command_of_an_admins_where_nothing_is_linked,
                flood_of_commands_is_bounded_in_each_conversation_and_old_ones_are_forgotten,
                author_of_a_message_is_known_and_nobody_else_is_taken_for_them,
            ];
            links: [
                links_are_kept_and_removed_with_their_outbox,
                replaced_end_takes_its_outbox_along_in_order,
                message_that_another_link_carries_there_is_not_doubled,
                link_that_goes_on_keeps_the_order_while_more_arrives,
                attempt_that_ends_after_its_link_went_on_holds_nothing,
            ];
            letters: [
                buried_delivery_can_be_retried_and_dropped,
                refused_message_is_kept_and_refused_event_is_a_line,
                what_died_is_told_by_conversation_reason_and_hour,
                all_dead_letters_are_retried_or_dropped_a_bounded_number_a_call,
                letters_come_oldest_first_in_pages,
                why_tells_what_became_of_a_message,
                counts_say_how_full_it_is,
            ];
        );
    };
    (@each $engine:expr; $($room:ident: [$($promise:ident,)*];)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::store::suite::$room::$promise(&$engine).await;
            }
        )*)*
    };
}
pub(super) use journal_suite;

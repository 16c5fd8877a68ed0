//! A kit that can't fail proves nothing: each of these transports breaks one promise, and the kit must say which.

use std::time::Duration;

use sealbridge_contract::conformance::{Outcome, run_only};
use sealbridge_loopback::{Datasheet, NetworkKind, Settings};

use crate::{
    broken::{self, Defect},
    harness::Loopbacks,
};

/// Plays the case that must notice, with a transport that has the defect.
macro_rules! catches {
    ($($(#[$settings:ident])? $name:ident: $defect:ident breaks $case:literal with $how:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let settings = catches!(@$($settings)?);
            let spoil = |transport| broken::spoil(transport, Defect::$defect);
            let believes = Defect::$defect == Defect::BelievesFiles;
            let harness = Loopbacks { spoil, believes, patience: Duration::from_secs(3), ..Loopbacks::new(settings) };
            let report = run_only(&harness, $case).await;
            let Some(Outcome::Failed(how)) = report.outcome($case) else {
                panic!("the kit does not notice it\n{report}");
            };
            assert!(how.contains($how), "the kit says something else: {how}");
        }
    )*};
    (@) => { Settings::default() };
    (@plain) => { Settings { datasheet: Datasheet::Plain, ..Settings::default() } };
    (@carrier) => { Settings { kind: NetworkKind::Carrier, ..Settings::default() } };
}

catches! {
    dropped_message: DropsArrivals breaks "many_messages_of_one_sender_keep_their_order" with "in vain";
    doubled_message: DoublesArrivals breaks "incoming_message_has_author_time_words_and_a_stable_name" with "several";
    swapped_messages: SwapsArrivals breaks "many_messages_of_one_sender_keep_their_order" with "order";
    acknowledgement_before_the_commit: ForgetsTheRefused breaks "full_journal_loses_nothing_and_keeps_order" with "in vain";
    other_name_at_redelivery: RenamesArrivals breaks "unaccepted_message_comes_again_under_its_name" with "another name";
    stop_that_is_not_heard: NeverStops breaks "stop_while_busy_is_prompt_and_loses_nothing" with "did not return";
    failed_journal_that_is_not_noticed: ForgetsTheRefused breaks "journal_that_ends_ends_it" with "did not end";
    gap_that_is_passed_over: DropsGaps breaks "gap_is_filled_in_order" with "in vain";
    late_message_that_is_forgotten: DropsUnreadables breaks "late_key_is_waited_for_and_holds_up_nobody" with "in vain";
    replay_that_is_not_told_apart: HidesReplays breaks "replay_is_refused" with "a replay crossed";
    own_message_taken_for_anothers: EchoesAsArrivals breaks "own_message_is_an_echo_and_never_an_arrival" with "in vain";
    words_in_clear_that_vanish: DropsRefusals breaks "words_in_clear_do_not_cross" with "nobody was told";
    doubled_delivery: DoublesDeliveries breaks "outgoing_message_is_heard_once_with_words_and_author" with "twice";
    lost_delivery: LosesDeliveries breaks "outgoing_message_is_heard_once_with_words_and_author" with "in vain";
    delivery_under_a_new_id_each_time: ForgetsDeliveryIds breaks "same_delivery_twice_is_heard_once" with "twice";
    delivery_under_a_new_id_after_a_drop: ForgetsDeliveryIds breaks "delivery_dropped_midway_can_be_made_again" with "twice";
    nameless_author: ForgetsAuthors breaks "outgoing_message_is_heard_once_with_words_and_author" with "name is not shown";
    find_that_finds_everything: FindsEverything breaks "delivery_in_doubt_is_found" with "never sent";
    find_that_finds_nothing: FindsNothing breaks "delivery_in_doubt_is_found" with "not found";
    answer_to_nothing: ForgetsReplies breaks "every_verb_is_carried_as_declared" with "answers something else";
    change_of_nothing: ForgetsTargets breaks "every_verb_is_carried_as_declared" with "failed";
    file_that_is_only_named: NamesFiles breaks "every_verb_is_carried_as_declared" with "something else";
    formatting_that_is_passed_on: PassesFormatting breaks "hostile_formatting_is_harmless" with "harmful";
    wrong_file_that_is_believed: BelievesFiles breaks "file_that_is_not_what_its_sender_said_stays_behind_and_its_words_cross" with "a file crossed";
    lost_trail: ForgetsTrails breaks "trail_goes_out_and_comes_in" with "did not go out";
    words_cut_short: CutsWords breaks "hard_words_go_out_whole" with "the words are others";
    #[plain] datasheet_that_says_more: DeclaresMore breaks "every_verb_is_carried_as_declared" with "not bold";
    find_that_knows_too_much: FindsNothing breaks "unreachable_network_is_tried_again" with "claims to know";
    refusal_that_is_tried_for_ever: RetriesForEver breaks "refusal_gives_up" with "another fate";
    unreachable_network_given_up: GivesUpTooSoon breaks "unreachable_network_is_tried_again" with "not to be tried again";
    throttle_without_a_time: ForgetsTheWait breaks "throttle_says_when_to_try_again" with "without the time";
    certainty_that_nobody_has: RetriesForEver breaks "lost_answer_is_in_doubt" with "can't be";
    unencrypted_conversation_called_pinned: AlwaysPinned breaks "unencrypted_conversation_is_never_spoken_to" with "pinned";
    violation_that_is_not_noticed: AlwaysPinned breaks "conversation_that_stops_to_be_encrypted_is_violated_for_good" with "in vain";
    words_in_a_trace: TracesWords breaks "outgoing_message_is_heard_once_with_words_and_author" with "TRACE trace";
    words_in_an_error: TellsWords breaks "too_long_is_refused_and_never_cut" with "an error";
    words_in_the_health: ShowsWords breaks "outgoing_message_is_heard_once_with_words_and_author" with "health";
    panic_of_a_delivery: Panics breaks "outgoing_message_is_heard_once_with_words_and_author" with "panicked";
    #[carrier] other_bytes_at_each_attempt: ChangesParcels breaks "every_attempt_carries_the_same_bytes" with "other bytes";
    #[carrier] dropped_parcel: DropsArrivals breaks "many_messages_of_one_sender_keep_their_order" with "in vain";
    #[carrier] parcel_that_vanishes: DropsTheFirst breaks "tampered_parcel_is_refused" with "vanished";
}

#[tokio::test]
async fn without_a_defect_nothing_is_caught() {
    let spoil = |transport| broken::spoil(transport, Defect::None);
    let harness = Loopbacks { spoil, ..Loopbacks::new(Settings::default()) };
    let report = run_only(&harness, "").await;
    assert!(report.passed(), "{report}");
}

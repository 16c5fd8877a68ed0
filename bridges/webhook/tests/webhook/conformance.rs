//! Both kinds of account keep the promises of the contract.

use sealbridge_contract::conformance::{Outcome, Report, run_all};

use crate::harness::{Endpoints, NOTHING_COMES_IN};

/// Only what somebody would have to say there is let off, and what goes out is tried.
fn let_off(report: &Report) {
    for case in [
        "outgoing_message_is_heard_once_with_words_and_author",
        "outgoing_messages_keep_their_order",
        "every_verb_is_carried_as_declared",
        "same_delivery_twice_is_heard_once",
        "delivery_dropped_midway_can_be_made_again",
        "refusal_gives_up",
        "throttle_says_when_to_try_again",
        "unreachable_network_is_tried_again",
        "lost_answer_is_in_doubt",
        "hard_words_go_out_whole",
        "too_long_is_refused_and_never_cut",
        "nobody_passes_for_somebody_else",
        "what_is_not_known_there_is_said_in_words",
        "conversation_is_listed",
    ] {
        assert_eq!(report.outcome(case), Some(&Outcome::Passed), "{case}\n{report}");
    }
    let incoming = report.outcome("full_journal_loses_nothing_and_keeps_order");
    assert_eq!(incoming, Some(&Outcome::NotApplicable(NOTHING_COMES_IN.into())), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_of_the_operators_keeps_its_promises() {
    let report = run_all(&Endpoints { encrypted: false }).await;
    let_off(&report);
    assert_eq!(report.count().0, 15, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_with_recipients_keeps_its_promises_and_sees_no_words() {
    let report = run_all(&Endpoints { encrypted: true }).await;
    let_off(&report);
    assert_eq!(report.outcome("servers_between_store_no_words"), Some(&Outcome::Passed), "{report}");
    assert_eq!(report.count().0, 16, "{report}");
}

//! The promises, each a function that plays it.

mod carrier;
mod encryption;
mod faults;
mod hostile;
mod incoming;
mod kinds;
mod outgoing;
mod portraits;
mod samples;
mod signals;
mod words;

use std::pin::Pin;

use super::{
    Told,
    stage::{Stage, Type},
};

type Playing<'a> = Pin<Box<dyn Future<Output = Told> + 'a>>;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) kinds: &'static [Type],
    /// Whether every network must do it.
    pub(super) must: bool,
    pub(super) play: for<'a> fn(&'a mut Stage<'_>) -> Playing<'a>,
}

const EVERY: &[Type] = &[Type::EndToEnd, Type::OperatorRun, Type::Carrier];
const READS: &[Type] = &[Type::EndToEnd, Type::OperatorRun];
const ENCRYPTS: &[Type] = &[Type::EndToEnd];
const CARRIES: &[Type] = &[Type::Carrier];

macro_rules! cases {
    ($($kinds:ident, $must:literal: $module:ident::$name:ident;)*) => {
        pub(super) const ALL: &[Case] = &[$(Case {
            name: stringify!($name),
            kinds: $kinds,
            must: $must,
            play: |stage| Box::pin($module::$name(stage)),
        }),*];
    };
}

cases! {
    EVERY, true: incoming::incoming_message_has_author_time_words_and_a_stable_name;
    EVERY, true: incoming::full_journal_loses_nothing_and_keeps_order;
    EVERY, true: incoming::unaccepted_message_comes_again_under_its_name;
    EVERY, true: incoming::accepted_message_does_not_come_again;
    EVERY, true: incoming::many_messages_of_one_sender_keep_their_order;
    EVERY, true: incoming::stop_while_busy_is_prompt_and_loses_nothing;
    EVERY, true: incoming::journal_that_ends_ends_it;
    EVERY, true: incoming::conversation_is_listed;
    EVERY, false: incoming::gap_is_filled_in_order;
    READS, false: incoming::late_key_is_waited_for_and_holds_up_nobody;
    READS, false: incoming::replay_is_refused;
    EVERY, false: incoming::own_message_is_an_echo_and_never_an_arrival;
    EVERY, true: outgoing::outgoing_message_is_heard_once_with_words_and_author;
    EVERY, true: outgoing::outgoing_messages_keep_their_order;
    EVERY, true: kinds::every_verb_is_carried_as_declared;
    EVERY, true: kinds::every_kind_that_people_say_comes_in;
    READS, false: portraits::picture_of_a_person_can_be_looked_up_after_a_restart_too;
    READS, false: signals::what_somebody_does_just_now_is_told_and_kept_nowhere;
    EVERY, false: outgoing::same_delivery_twice_is_heard_once;
    EVERY, false: outgoing::delivery_dropped_midway_can_be_made_again;
    EVERY, false: outgoing::delivery_in_doubt_is_found;
    EVERY, false: outgoing::answer_crosses_as_an_answer;
    EVERY, false: outgoing::direct_conversation_is_opened_once;
    EVERY, false: faults::refusal_gives_up;
    EVERY, false: faults::throttle_says_when_to_try_again;
    EVERY, false: faults::unreachable_network_is_tried_again;
    EVERY, false: faults::lost_answer_is_in_doubt;
    EVERY, true: words::hard_words_go_out_whole;
    EVERY, true: words::hard_words_come_in_whole;
    EVERY, true: words::too_long_is_refused_and_never_cut;
    EVERY, false: words::trail_goes_out_and_comes_in;
    READS, false: hostile::hostile_formatting_is_harmless;
    EVERY, true: hostile::nobody_passes_for_somebody_else;
    EVERY, false: hostile::flood_of_reactions_is_bounded;
    READS, false: hostile::file_that_is_not_what_its_sender_said_stays_behind_and_its_words_cross;
    EVERY, true: hostile::what_is_not_known_there_is_said_in_words;
    ENCRYPTS, false: encryption::unencrypted_conversation_is_never_spoken_to;
    ENCRYPTS, false: encryption::conversation_that_stops_to_be_encrypted_is_violated_for_good;
    ENCRYPTS, false: encryption::words_in_clear_do_not_cross;
    ENCRYPTS, false: encryption::servers_between_store_no_words;
    CARRIES, true: carrier::far_server_stores_no_words;
    CARRIES, true: carrier::every_attempt_carries_the_same_bytes;
    CARRIES, true: carrier::tampered_parcel_is_refused;
    CARRIES, true: carrier::foreign_bytes_become_no_message;
}

//! The engine's form to ours and back. Pure: no call here waits, asks or keeps.

mod info;
mod page;
mod read;
mod write;

pub(crate) use self::{
    info::{name_in, timer_in},
    page::{goes_on, words_of},
    read::{About, IN_CLEAR, Read, arrived, is_cut, name_of, not_carried, telling},
    write::{Written, ending, file_name, written},
};

//! Tests of the service as a whole. One binary, since each links the world.

mod architecture;
mod audience;
mod chat;
mod chat_rooms;
mod comparing;
mod config;
mod deeds;
mod egress;
mod loops;
mod operator;
mod kinds_across;
mod packaging;
mod parts_across;
mod phones;
mod family;
mod full_disk;
mod journeys;
mod kinds;
mod large_files;
mod recovery;
mod refusals;
mod running;
mod secrecy;
mod relations;
mod spool;
mod waiting;

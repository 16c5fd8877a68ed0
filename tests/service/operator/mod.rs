//! What the operator does and sees: the command line against the built binary, and the parts beneath it in this process.

mod actions;
mod backup;
mod bench;
mod commands;
mod confined;
mod control;
mod init;
mod keyring;
mod keys;
mod logs;
mod sockets;
mod watched;

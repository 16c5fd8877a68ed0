//! The kit that every transport must pass.

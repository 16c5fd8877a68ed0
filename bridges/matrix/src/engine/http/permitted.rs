//! The closed list of requests that may leave.
//!
//! Sending a room event, writing room state and sending to-device messages are not on the public list, so code
//! outside the engine can't even name such a request: what leaves a room is ciphertext made by the engine.

use std::borrow::Cow;

use ruma::api::{OutgoingRequest, SupportedVersions, auth_scheme::SendAccessToken, client as api};

use super::error::{HttpError, HttpErrorKind};

/// A request that the engine can put on the wire.
pub trait OnWire: OutgoingRequest + Send + Sync {
    const NEEDS_VERSIONS: bool;

    fn into_http(
        self,
        base: &str,
        token: Option<&str>,
        versions: &SupportedVersions,
    ) -> Result<http::Request<Vec<u8>>, HttpError>;
}

/// A request that any part of the transport may send through [`Http::send`](super::Http::send).
pub trait Permitted: OnWire {}

macro_rules! on_wire {
    ($($request:ty),+ $(,)?) => {$(
        impl OnWire for $request {
            const NEEDS_VERSIONS: bool = true;

            fn into_http(
                self,
                base: &str,
                token: Option<&str>,
                versions: &SupportedVersions,
            ) -> Result<http::Request<Vec<u8>>, HttpError> {
                let token = token.map_or(SendAccessToken::None, SendAccessToken::IfRequired);
                self.try_into_http_request(base, token, Cow::Borrowed(versions)).map_err(unsendable)
            }
        }
    )+};
}

macro_rules! permitted {
    ($($request:ty),+ $(,)?) => {
        on_wire!($($request),+);
        $(impl Permitted for $request {})+
    };
}

macro_rules! permitted_without_versions {
    ($($request:ty),+ $(,)?) => {$(
        impl OnWire for $request {
            const NEEDS_VERSIONS: bool = false;

            fn into_http(
                self,
                base: &str,
                _: Option<&str>,
                _: &SupportedVersions,
            ) -> Result<http::Request<Vec<u8>>, HttpError> {
                self.try_into_http_request(base, SendAccessToken::None, ()).map_err(unsendable)
            }
        }
        impl Permitted for $request {}
    )+};
}

permitted_without_versions![
    api::discovery::discover_homeserver::Request,
    api::discovery::get_supported_versions::Request,
];

permitted![
    api::authenticated_media::get_media_config::v1::Request,
    api::account::whoami::v3::Request,
    api::config::get_global_account_data::v3::Request,
    api::config::set_global_account_data::v3::Request,
    api::context::get_context::v3::Request,
    api::device::get_device::v3::Request,
    api::device::get_devices::v3::Request,
    api::discovery::get_capabilities::v3::Request,
    api::membership::forget_room::v3::Request,
    api::membership::get_member_events::v3::Request,
    api::membership::invite_user::v3::Request,
    api::membership::join_room_by_id::v3::Request,
    api::membership::joined_members::v3::Request,
    api::membership::joined_rooms::v3::Request,
    api::membership::leave_room::v3::Request,
    api::message::get_message_events::v3::Request,
    api::receipt::create_receipt::v3::Request,
    api::redact::redact_event::v3::Request,
    api::room::create_room::v3::Request,
    api::room::get_room_event::v3::Request,
    api::session::get_login_types::v3::Request,
    api::session::login::v3::Request,
    api::session::logout::v3::Request,
    api::state::get_state_event_for_key::v3::Request,
    api::state::get_state_events::v3::Request,
    api::sync::sync_events::v3::Request,
    api::typing::create_typing_event::v3::Request,
];

// Key traffic and ciphertext: made by the engine alone.
on_wire![
    api::authenticated_media::get_content::v1::Request,
    api::authenticated_media::get_content_thumbnail::v1::Request,
    api::backup::add_backup_keys::v3::Request,
    api::backup::create_backup_version::v3::Request,
    api::backup::get_backup_keys_for_session::v3::Request,
    api::backup::get_latest_backup_info::v3::Request,
    api::device::delete_devices::v3::Request,
    api::keys::claim_keys::v3::Request,
    api::keys::get_keys::v3::Request,
    api::keys::upload_keys::v3::Request,
    api::keys::upload_signatures::v3::Request,
    api::keys::upload_signing_keys::v3::Request,
    api::media::create_mxc_uri::v1::Request,
    api::message::send_message_event::v3::Request,
    api::session::refresh_token::v3::Request,
    api::to_device::send_event_to_device::v3::Request,
];

fn unsendable(_: ruma::api::error::IntoHttpError) -> HttpError {
    HttpErrorKind::Refused("the request could not be built for this homeserver").into()
}

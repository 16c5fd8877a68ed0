//! A crypto store over another one: what it does not say itself, the inner one does.

/// Implements `CryptoStore` for a one-field wrapper, all but the methods given in its body.
macro_rules! crypto_store_over {
    (impl for $store:ident { $($own:tt)* }) => {
        $crate::engine::keystore::delegate::crypto_store_over! {
            @with $store { $($own)* }
            load_account() -> Option<Account>;
            load_identity() -> Option<PrivateCrossSigningIdentity>;
            get_inbound_group_sessions() -> Vec<InboundGroupSession>;
            inbound_group_session_counts(version: Option<&str>) -> RoomKeyCounts;
            get_inbound_group_sessions_by_room_id(room: &RoomId) -> Vec<InboundGroupSession>;
            get_inbound_group_sessions_for_device_batch(
                key: Curve25519PublicKey, kind: SenderDataType, after: Option<String>, limit: usize
            ) -> Vec<InboundGroupSession>;
            inbound_group_sessions_for_backup(version: &str, limit: usize) -> Vec<InboundGroupSession>;
            mark_inbound_group_sessions_as_backed_up(version: &str, sessions: &[(&RoomId, &str)]) -> ();
            reset_backup_state() -> ();
            load_backup_keys() -> BackupKeys;
            load_dehydrated_device_pickle_key() -> Option<DehydratedDeviceKey>;
            delete_dehydrated_device_pickle_key() -> ();
            get_outbound_group_session(room: &RoomId) -> Option<OutboundGroupSession>;
            load_tracked_users() -> Vec<TrackedUser>;
            save_tracked_users(users: &[(&UserId, bool)]) -> ();
            get_device(user: &UserId, device: &DeviceId) -> Option<DeviceData>;
            get_user_devices(user: &UserId) -> HashMap<OwnedDeviceId, DeviceData>;
            get_own_device() -> DeviceData;
            get_user_identity(user: &UserId) -> Option<UserIdentityData>;
            get_outgoing_secret_requests(request: &TransactionId) -> Option<GossipRequest>;
            get_secret_request_by_info(info: &SecretInfo) -> Option<GossipRequest>;
            get_unsent_secret_requests() -> Vec<GossipRequest>;
            delete_outgoing_secret_requests(request: &TransactionId) -> ();
            get_secrets_from_inbox(name: &SecretName) -> Vec<Zeroizing<String>>;
            delete_secrets_from_inbox(name: &SecretName) -> ();
            get_room_settings(room: &RoomId) -> Option<RoomSettings>;
            get_received_room_key_bundle_data(room: &RoomId, user: &UserId) -> Option<StoredRoomKeyBundleData>;
            get_pending_key_bundle_details_for_room(room: &RoomId) -> Option<RoomPendingKeyBundleDetails>;
            get_all_rooms_pending_key_bundles() -> Vec<RoomPendingKeyBundleDetails>;
            has_downloaded_all_room_keys(room: &RoomId) -> bool;
            get_custom_value(key: &str) -> Option<Vec<u8>>;
            remove_custom_value(key: &str) -> ();
            try_take_leased_lock(lease: u32, key: &str, holder: &str) -> Option<u64>;
            next_batch_token() -> Option<String>;
            close() -> ();
            reopen() -> ();
            get_size() -> Option<usize>;
        }
    };
    (@with $store:ident { $($own:tt)* } $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl<S: CryptoStore> CryptoStore for $store<S> {
            type Error = CryptoStoreError;

            $($own)*

            $(
                async fn $method(&self, $($argument: $type),*) -> Result<$answer, CryptoStoreError> {
                    self.inner.$method($($argument),*).await.map_err(Into::into)
                }
            )*
        }
    };
}

pub(super) use crypto_store_over;

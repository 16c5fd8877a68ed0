//! Where else it is said how old our stores are: beside the keys, and at the homeserver. See [`crate::age`].

use ruma::events::GlobalAccountDataEventType;
use serde::{Serialize, de::DeserializeOwned};

use super::{Engine, EngineError};

/// What the account data is called, with the device after it.
pub(crate) const AGE: &str = "io.github.sealbridge.age.";

const BESIDE_THE_KEYS: &str = "sealbridge.age";

impl Engine {
    pub(crate) async fn age_of_keys<T: DeserializeOwned>(&self) -> Result<Option<T>, EngineError> {
        Ok(self.machine().store().get_value(BESIDE_THE_KEYS).await?)
    }

    pub(crate) async fn set_age_of_keys(&self, age: &impl Serialize) -> Result<(), EngineError> {
        Ok(self.machine().store().set_value(BESIDE_THE_KEYS, age).await?)
    }

    /// What the homeserver was told of this device; `None` too if that is nothing of ours.
    pub(crate) async fn age_told<T: DeserializeOwned>(&self) -> Result<Option<T>, EngineError> {
        let data = self.account_data(self.age_kind()).await?;
        Ok(data.and_then(|data| serde_json::from_str(data.get()).ok()))
    }

    pub(crate) async fn tell_age(&self, age: &impl Serialize) -> Result<(), EngineError> {
        let content = serde_json::value::to_raw_value(age).map_err(|_| EngineError::Olm("serialising failed"))?;
        self.set_account_data(self.age_kind(), &content).await
    }

    fn age_kind(&self) -> GlobalAccountDataEventType {
        GlobalAccountDataEventType::from(format!("{AGE}{}", self.device_id()))
    }
}

//! What a homeserver's own admin can do: make users, and free them of rate limits.

use anyhow::{Context, Result, bail};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use super::Synapse;
use crate::venv::Venv;

/// A user that exists, and how to log in.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub localpart: String,
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Synapse {
    /// Makes a user by the registration secret.
    pub async fn register(&self, localpart: &str, password: &str) -> Result<User> {
        self.register_as(localpart, password, false).await?;
        Ok(User {
            id: format!("@{localpart}:{}", self.server_name()),
            localpart: localpart.to_owned(),
            password: password.to_owned(),
        })
    }

    /// Makes a user whose name starts with `base` and that no other test has.
    pub async fn register_unique(&self, base: &str) -> Result<User> {
        let localpart = format!("{base}-{}", crate::fresh::random_hex::<4>()?);
        let password = crate::fresh::random_hex::<12>()?;
        self.register(&localpart, &password).await
    }

    /// A command line that makes a further user by hand.
    pub fn register_command(&self) -> Result<String> {
        let python = Venv::ready()?.python();
        Ok(format!(
            "{} -m synapse._scripts.register_new_matrix_user --no-admin --config {} {}",
            python.display(),
            self.data_dir().join("homeserver.yaml").display(),
            self.url()
        ))
    }

    /// Lets a user send without Synapse's rate limits, as its admin may.
    pub async fn exempt_from_limits(&self, user_id: &str) -> Result<()> {
        let token = self.admin_token().await?;
        let path = format!(
            "/_synapse/admin/v1/users/{}/override_ratelimit",
            url::form_urlencoded::byte_serialize(user_id.as_bytes()).collect::<String>()
        );
        let free = json!({ "messages_per_second": 0, "burst_count": 0 });
        self.call("POST", &path, Some(&token), Some(free)).await?;
        Ok(())
    }

    /// Ends every session of a user and deletes their devices, as "log out everywhere" does in a client.
    pub async fn log_out_everywhere(&self, user: &User) -> Result<()> {
        let login = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user.localpart },
            "password": user.password,
        });
        let answer = self.call("POST", "/_matrix/client/v3/login", None, Some(login)).await?;
        let token = answer["access_token"].as_str().context("No token after the login")?;
        self.call("POST", "/_matrix/client/v3/logout/all", Some(token), Some(json!({}))).await?;
        Ok(())
    }

    /// An access token with the rights of a server admin.
    pub async fn admin_token(&self) -> Result<String> {
        let localpart = format!("admin-{}", crate::fresh::random_hex::<4>()?);
        let answer = self.register_as(&localpart, &crate::fresh::random_hex::<12>()?, true).await?;
        let token = answer["access_token"].as_str();
        token.map(str::to_owned).context("No token for the admin")
    }

    async fn register_as(&self, localpart: &str, password: &str, admin: bool) -> Result<Value> {
        const PATH: &str = "/_synapse/admin/v1/register";
        let answer = self.call("GET", PATH, None, None).await?;
        let nonce = answer["nonce"].as_str().context("No nonce")?;
        let role = if admin { "admin" } else { "notadmin" };
        let mut mac = Hmac::<Sha1>::new_from_slice(self.registration_secret().as_bytes())?;
        mac.update([nonce, localpart, password, role].join("\0").as_bytes());
        let request = json!({
            "nonce": nonce,
            "username": localpart,
            "password": password,
            "admin": admin,
            "mac": crate::fresh::hex(&mac.finalize().into_bytes()),
        });
        self.call("POST", PATH, None, Some(request)).await
    }

    /// One request to the homeserver; an answer that is no success is an error.
    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Result<Value> {
        let (status, answer) = self.request(method, path, token, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", answer["errcode"]);
        }
        Ok(answer)
    }

    /// One request to the homeserver, whatever it answers.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<(u16, Value)> {
        super::request(&format!("{}{path}", self.url()), method, token, body).await
    }
}

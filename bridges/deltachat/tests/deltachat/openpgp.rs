//! What is wrong with keys and with the encryption itself, by another OpenPGP than Delta Chat's: a member of the group who
//! has her own key and means harm, or whose key is no good any more.

use anyhow::{Context as _, Result};
use sealbridge_contract::gate::Encryption;
use sealbridge_lab::{
    DeltaPerson, MailServer,
    mail::{is_encrypted, openpgp},
};
use serde_json::json;

use crate::bridge::{Bridge, Running, SOON};

/// Ann in the bridge's group, with her own key in her hands.
struct Scene {
    server: &'static MailServer,
    bridge: Bridge,
    running: Running,
    ann: DeltaPerson,
    chat: u32,
    address: String,
    group: String,
    secret: String,
    /// The bridge's key, as base64.
    public: String,
}

impl Scene {
    async fn set() -> Result<Option<Self>> {
        let Some(server) = MailServer::shared().await? else { return Ok(None) };
        let bridge = Bridge::new(server).await?;
        let running = bridge.start().await?;
        let ann = DeltaPerson::new_on(server, "ann").await?;
        let chat = ann.join(&bridge.link).await?;
        let said = ann.send(chat, "true words").await?;
        running.accepted(&said.id).await?;
        let group = bridge.link.split('&').find_map(|part| part.strip_prefix("x="));
        let group = group.context("The group has an id")?.to_owned();
        let address = bridge.settings.address.clone().context("The bridge has an address")?;
        let folder = tempfile::tempdir()?;
        ann.rpc("export_self_keys", json!([folder.path(), null])).await?;
        let mut exported =
            std::fs::read_dir(folder.path())?.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        let secret = exported.find(|key| key.contains("PRIVATE KEY BLOCK")).context("Ann has a key")?;
        let public = key_of(&ann, &address).await?;
        Ok(Some(Self { server, bridge, running, ann, chat, address, group, secret, public }))
    }

    /// Lays a mail of Ann's into the bridge's mailbox, sealed in this way, with this further header within.
    async fn lay(&self, words: &str, how: &str, further: &str) -> Result<String> {
        let (from, id) = (self.ann.address(), format!("{how}-{}@localhost", words.replace(' ', "-")));
        let inner = format!(
            "Content-Type: text/plain; charset=\"utf-8\"; protected-headers=\"v1\"; hp=\"cipher\"\r\n\
             From: \"ann\" <{from}>\r\nTo: <{address}>\r\nSubject: Family\r\nMessage-ID: <{id}>\r\n\
             Chat-Version: 1.0\r\nChat-Group-ID: {group}\r\n\
             Chat-Group-Name: Family\r\n{further}Content-Transfer-Encoding: 7bit\r\n\r\n{words}\r\n",
            address = self.address,
            group = self.group,
        );
        let sealed = openpgp::seal(&self.secret, &self.public, &inner, how).await?;
        let mail = format!(
            "From: <{from}>\nTo: <{address}>\nSubject: [...]\nMessage-ID: <{id}>\n\
             Chat-Version: 1.0\nMIME-Version: 1.0\n\
             Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"zqpgp\"\n\n\
             --zqpgp\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n\
             --zqpgp\nContent-Type: application/octet-stream\n\n{sealed}\n--zqpgp--\n",
            address = self.address,
        );
        self.server.inject(&self.address, &mail).await?;
        Ok(id)
    }

    /// What crossed until these last words of hers did.
    async fn crossed_until(&self, last: &str) -> Result<Vec<String>> {
        let said = self.ann.send(self.chat, last).await?;
        self.running.accepted(&said.id).await?;
        Ok(self.bridge.said().into_iter().map(|one| one.words.0).collect())
    }
}

/// The key that a person's engine has of an address, as base64.
async fn key_of(person: &DeltaPerson, address: &str) -> Result<String> {
    let contacts = person.rpc("get_contacts", json!([0, null])).await?;
    let contact = contacts.as_array().into_iter().flatten().find(|one| one["address"] == address);
    let id = contact.context("She knows the bridge")?["id"].clone();
    let card = person.rpc("make_vcard", json!([[id]])).await?;
    let card = card.as_str().context("A card is text")?.replace("\r\n ", "");
    let key = card.lines().find_map(|line| line.strip_prefix("KEY:data:application/pgp-keys;base64\\,"));
    Ok(key.context("It has a key")?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_not_signed_without_mdc_or_with_a_broken_digest_never_crosses_though_a_member_made_it()
-> Result<()> {
    let Some(scene) = Scene::set().await? else { return Ok(()) };
    for how in ["unsigned", "without-mdc", "md5", "sha1"] {
        scene.lay(&format!("bad words {how}"), how, "").await?;
    }
    // The engine reads what somebody encrypts with an old cipher. That is theirs to lose: nothing of ours is sent so.
    let old = ["3des", "cast5"];
    for how in old {
        scene.lay(&format!("words by {how}"), how, "").await?;
    }
    // The control: the same mail with nothing wrong about it.
    scene.lay("sound words", "sound", "").await?;
    let crossed = scene.crossed_until("the last true words").await?;
    assert_eq!(crossed, ["true words", "words by 3des", "words by cast5", "sound words", "the last true words"]);
    assert_eq!(scene.running.transport.encryption(&scene.bridge.group), Encryption::Pinned);
    scene.running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_that_is_over_flooded_or_weak_is_no_reason_to_write_in_clear_or_to_lose_anything() -> Result<()> {
    for how in ["expired", "revoked", "flooded", "weak"] {
        let Some(scene) = Scene::set().await? else { return Ok(()) };
        let key = openpgp::changed(&scene.secret, how).await?;
        let header = format!("Autocrypt: addr={}; prefer-encrypt=mutual; keydata={key}\r\n", scene.ann.address());
        scene.lay("now it is so", "sound", &header).await?;
        // The engine heeds neither the end of a key nor its revocation: it stays who she is.
        scene.lay("words after it", "sound", &header).await?;
        let crossed = scene.crossed_until("the last true words").await?;
        assert_eq!(crossed, ["true words", "now it is so", "words after it", "the last true words"], "{how}");
        scene.running.insist("for ann alone", &scene.running.slip(&scene.bridge.group)).await?;
        scene.ann.wait_for(|seen| seen.text == "for ann alone", SOON).await?;
        let from = format!("From: <{}>", scene.address);
        let clear = scene.server.archive()?.into_iter();
        let clear = clear.filter(|mail| String::from_utf8_lossy(mail).contains(&from) && !is_encrypted(mail));
        assert_eq!(clear.count(), 0, "{how}: the bridge sent mail in clear");
        assert_eq!(scene.running.transport.encryption(&scene.bridge.group), Encryption::Pinned, "{how}");
        scene.running.stop().await?;
    }
    Ok(())
}

//! What is wrong with keys and with the encryption itself, by another OpenPGP than Delta Chat's: a member of the group who
//! has her own key and means harm, or whose key is no good any more.

use anyhow::{Context as _, Result};
use sealbridge_contract::gate::Encryption;
use sealbridge_lab::{
    DeltaPerson,
    mail::{is_encrypted, openpgp},
};
use serde_json::json;

use crate::bridge::{InGroup, SOON, own_key};

/// Ann in the bridge's group, with her own key in her hands.
struct Scene {
    group: InGroup,
    secret: String,
    /// The bridge's key, as base64.
    public: String,
}

impl Scene {
    async fn set() -> Result<Option<Self>> {
        let Some(group) = InGroup::set().await? else { return Ok(None) };
        let said = group.ann.send(group.chat, "true words").await?;
        group.running.accepted(&said.id).await?;
        let secret = own_key(&group.ann, "PRIVATE").await?;
        let public = key_of(&group.ann, &group.address).await?;
        Ok(Some(Self { group, secret, public }))
    }

    /// Lays a mail of Ann's into the bridge's mailbox, sealed in this way, with this further header within.
    async fn lay(&self, words: &str, how: &str, further: &str) -> Result<String> {
        let (from, id) = (self.group.ann.address(), format!("{how}-{}@localhost", words.replace(' ', "-")));
        let inner = format!(
            "Content-Type: text/plain; charset=\"utf-8\"; protected-headers=\"v1\"; hp=\"cipher\"\r\n\
             From: \"ann\" <{from}>\r\nTo: <{address}>\r\nSubject: Family\r\nMessage-ID: <{id}>\r\n\
             Chat-Version: 1.0\r\nChat-Group-ID: {group}\r\n\
             Chat-Group-Name: Family\r\n{further}Content-Transfer-Encoding: 7bit\r\n\r\n{words}\r\n",
            address = self.group.address,
            group = self.group.group,
        );
        let sealed = openpgp::seal(&self.secret, &self.public, &inner, how).await?;
        let mail = format!(
            "From: <{from}>\nTo: <{address}>\nSubject: [...]\nMessage-ID: <{id}>\n\
             Chat-Version: 1.0\nMIME-Version: 1.0\n\
             Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"zqpgp\"\n\n\
             --zqpgp\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n\
             --zqpgp\nContent-Type: application/octet-stream\n\n{sealed}\n--zqpgp--\n",
            address = self.group.address,
        );
        self.group.server.inject(&self.group.address, &mail).await?;
        Ok(id)
    }

    /// What crossed until these last words of hers did.
    async fn crossed_until(&self, last: &str) -> Result<Vec<String>> {
        let said = self.group.ann.send(self.group.chat, last).await?;
        self.group.running.accepted(&said.id).await?;
        Ok(self.group.bridge.said().into_iter().map(|one| one.words.0).collect())
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
    assert_eq!(scene.group.running.transport.encryption(&scene.group.bridge.group), Encryption::Pinned);
    scene.group.running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_that_is_over_flooded_or_weak_is_no_reason_to_write_in_clear_or_to_lose_anything() -> Result<()> {
    for how in ["expired", "revoked", "flooded", "weak"] {
        let Some(scene) = Scene::set().await? else { return Ok(()) };
        let key = openpgp::changed(&scene.secret, how).await?;
        let header = format!("Autocrypt: addr={}; prefer-encrypt=mutual; keydata={key}\r\n", scene.group.ann.address());
        scene.lay("now it is so", "sound", &header).await?;
        // The engine heeds neither the end of a key nor its revocation: it stays who she is.
        scene.lay("words after it", "sound", &header).await?;
        let crossed = scene.crossed_until("the last true words").await?;
        assert_eq!(crossed, ["true words", "now it is so", "words after it", "the last true words"], "{how}");
        scene.group.running.insist("for ann alone", &scene.group.running.slip(&scene.group.bridge.group)).await?;
        scene.group.ann.wait_for(|seen| seen.text == "for ann alone", SOON).await?;
        let from = format!("From: <{}>", scene.group.address);
        let clear = scene.group.server.archive()?.into_iter();
        let clear = clear.filter(|mail| String::from_utf8_lossy(mail).contains(&from) && !is_encrypted(mail));
        assert_eq!(clear.count(), 0, "{how}: the bridge sent mail in clear");
        assert_eq!(scene.group.running.transport.encryption(&scene.group.bridge.group), Encryption::Pinned, "{how}");
        scene.group.running.stop().await?;
    }
    Ok(())
}

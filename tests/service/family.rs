//! From a bridge with a Matrix account to a family group on phones: an account more, its invitation, a link.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    mail::Mailbox,
    person::Message,
    venv::Venv,
};
use serde_json::Value;

use crate::scanned::{Surface, scan};

const PATIENCE: Duration = Duration::from_secs(60);

/// Writes an answers file that others can't read.
fn write_answers(bridge: &Bridge, mail: &MailServer, mailbox: &Mailbox, engine: &std::path::Path) -> Result<String> {
    let answers = format!(
        "[accounts.family]\nnetwork = \"deltachat\"\naddress = {:?}\npassword = {:?}\nengine = {engine:?}\n\
         certificate_checks = \"accept-invalid\"\ngroups = [\"Family\"]\n\
         imap = {{ server = \"localhost\", port = {} }}\nsmtp = {{ server = \"localhost\", port = {} }}\n",
        mailbox.address,
        mailbox.password,
        mail.imaps(),
        mail.smtps()
    );
    let path = bridge.folder().join("family.toml");
    std::fs::write(&path, answers)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(path.to_string_lossy().into_owned())
}

/// What all invitations to a group have in common: the engine makes a new secret for each.
fn of_the_same_group(link: &str) -> Option<&str> {
    link.split_once("&i=").map(|(before, _)| before)
}

/// What a message draws, where letters all have one width and the surface is light whatever else is around it.
fn drawn(message: &Message) -> Result<&str> {
    let html = message.content["formatted_body"].as_str().context("it is formatted")?;
    let (_, rest) = html.split_once("<pre><code><span ").with_context(|| format!("it draws nothing: {html}"))?;
    let (colours, rest) = rest.split_once('>').context("it never begins")?;
    let are_told =
        ["data-mx-color=\"#000000\"", "data-mx-bg-color=\"#ffffff\""].iter().all(|one| colours.contains(one));
    ensure!(are_told, "it has these colours: {colours}");
    Ok(rest.split_once("</span>").context("it never ends")?.0)
}

/// What a command says to a person.
async fn in_a_terminal(bridge: &Bridge, args: &[&str]) -> Result<String> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sealbridge"));
    let output = command.arg("--config").arg(bridge.config()).args(args).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_is_added_brings_its_group_its_invitation_and_its_people() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let engine = tokio::task::spawn_blocking(Venv::ready).await??.delta_chat()?;
    let (ann, operator) = tokio::try_join!(Person::new_on(&lab.a, "ann"), Person::new_on(&lab.a, "operator"))?;
    let account = AccountPlan::on(&lab.a, "work").await?;
    let bot = account.user.id.clone();
    let admin = Some(("work".to_owned(), operator.user_id().to_owned()));
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let mut bridge = Bridge::set_up(&binary, &Plan { accounts: vec![account], admin, extra: String::new() }).await?;
    let config = format!("{}\n# Do not touch this line.\n", std::fs::read_to_string(bridge.config())?);
    std::fs::write(bridge.config(), &config)?;

    let mailbox = mail.mailbox("bridge")?;
    let wrong = Mailbox { password: "not this one".into(), ..mailbox.clone() };
    let answers = write_answers(&bridge, mail, &wrong, &engine)?;
    let refused = bridge.cli(&["account", "add", "--answers", &answers]).await?;
    ensure!(refused.code == 4 && !format!("{refused:?}").contains("not this one"), "{refused:?}");
    ensure!(std::fs::read_to_string(bridge.config())? == config, "a login that failed changes no config");

    let answers = write_answers(&bridge, mail, &mailbox, &engine)?;
    let added = bridge.cli(&["account", "add", "--answers", &answers]).await?.ok()?;
    let steps = lines(&added.stdout);
    let invited = steps.iter().rfind(|step| step["step"] == "invitation").context("it shows no invitation")?;
    let first = invited["link"].as_str().context("no link")?;
    let picture = invited["picture"].as_str().context("no picture")?;
    ensure!(scan(picture, Surface::Dark)? == first, "another invitation is drawn");
    let text = std::fs::read_to_string(bridge.config())?;
    ensure!(text.contains("# Do not touch this line.") && text.contains("[accounts.family]"), "{text}");
    ensure!(!text.contains(&mailbox.password), "the password is in the config");

    bridge.start().await?;
    let accounts = lines(&bridge.cli(&["account", "list"]).await?.ok()?.stdout);
    let names: Vec<_> = accounts.iter().map(|line| (line["name"].as_str(), line["connected"].as_bool())).collect();
    ensure!(names == [(Some("family"), Some(true)), (Some("work"), Some(true))], "{names:?}");
    let admin_room = bridge.status().await?["admin_room"].as_str().context("an admin room")?.to_owned();
    let admin_room = admin_room.split_once('/').context("account/room")?.1.to_owned();
    operator.join(&admin_room).await?;

    let reachable = lines(&bridge.cli(&["conversations", "list", "--account", "family"]).await?.ok()?.stdout);
    let group = reachable.iter().find(|line| line["name"] == "Family").context("the group is not listed")?;
    ensure!(group["encryption"] == "pinned", "{group}");
    let group = group["at"].as_str().context("it has a name in links")?;
    let invitation = bridge.cli(&["conversations", "invite", group]).await?.ok()?.json()?;
    let link = invitation["link"].as_str().context("no link")?.to_owned();
    ensure!(of_the_same_group(&link) == of_the_same_group(first), "{invitation} is not like {invited}");
    for link in [first, &link] {
        let shown = |message: &Message| {
            let html = message.content["formatted_body"].as_str().unwrap_or_default();
            message.room == admin_room && message.body.contains(link) && html.contains("<pre>") && html.contains('█')
        };
        let shown = operator.wait_for(shown, PATIENCE).await.context("the admin room shows the invitation")?;
        ensure!(scan(drawn(&shown)?, Surface::Light)? == link, "the admin room draws another invitation");
    }
    let typed = in_a_terminal(&bridge, &["conversations", "invite", group]).await?;
    let link = typed.lines().find(|line| line.starts_with("https://")).context("the terminal shows no link")?;
    let is_drawn = |row: &&str| row.contains(['█', '▀', '▄']);
    let rows: Vec<_> = typed.lines().filter(is_drawn).collect();
    ensure!(scan(&rows.join("\n"), Surface::Dark)? == link, "the terminal draws another invitation");
    let link = link.to_owned();
    let refused = bridge.cli(&["conversations", "invite", &format!("work/{admin_room}")]).await?;
    ensure!(refused.code == 6, "{refused:?}");

    let ben = DeltaPerson::new_on(mail, "ben").await?;
    let chat = ben.join(&link).await?;
    let room = ann.create_encrypted_room("talk", &[&bot]).await?;
    ann.wait_member(&room, &bot, "join", PATIENCE).await?;
    let room_end = format!("work/{room}");
    bridge.wait_conversation(&room_end, PATIENCE).await?;
    bridge.link("family", &[&room_end, group]).await?;
    ann.send(&room, "dinner is ready").await?;
    let seen = ben.wait_for(|seen| seen.text == "dinner is ready", PATIENCE).await?;
    ensure!(seen.padlock, "{seen:?}");
    ben.send(chat, "on my way").await?;
    ann.wait_for(|message| message.body.ends_with("on my way"), PATIENCE).await?;
    bridge.stop().await
}

//! Setting up, and what is said when it can't be done.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use anyhow::{Context as _, Result};
use sealbridge_contract::{Answer, ConversationId, Fatal, Flow as _, FlowError, Step, conformance::MemoryIntake};
use sealbridge_deltachat::{CertificateChecks, MailHost, SHEET, Security, Settings, Setup};
use sealbridge_lab::{DeltaPerson, MailServer, mail::Relay};
use serde_json::json;
use tempfile::TempDir;

use crate::bridge::{Bridge, Running, SOON, context, set_up, settings, until};

/// What the login flow says when it ends badly.
async fn fails(settings: Settings, password: &str) -> Result<String> {
    let folder = TempDir::new()?;
    let intake: Arc<MemoryIntake> = Arc::default();
    let error = set_up(context(folder.path(), &intake), settings, password).await.expect_err("it can't log in");
    assert!(error.downcast_ref::<FlowError>().is_some(), "{error:?}");
    let words = format!("{error:#}");
    assert!(!words.contains(password), "{words}");
    Ok(words)
}

/// The same, with TLS after a greeting in clear.
fn over_starttls(settings: &Settings, server: &MailServer) -> Settings {
    let [imap, smtp] = server
        .starttls()
        .map(|port| Some(MailHost { server: "localhost".to_owned(), port, security: Security::Starttls }));
    Settings { imap, smtp, ..settings.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_really_wrong_with_the_mail_server_is_said() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mailbox = server.mailbox("bridge")?;
    let good = settings(&mailbox, server.imaps(), server.smtps()).await?;
    for wire in [good.clone(), over_starttls(&good, server)] {
        let port = wire.imap.as_ref().context("it is named")?.port;
        let strict = Settings { certificate_checks: CertificateChecks::Strict, ..wire };
        let words = fails(strict, &mailbox.password).await?;
        let expected = format!("localhost port {port} (reading mail): no public authority signed its certificate");
        assert!(words.contains(&expected), "{words}");
    }
    let words = fails(good.clone(), "a wrong password").await?;
    assert!(words.contains("refuses this address with this password (reading mail)"), "{words}");
    // A mail server that knows other passwords.
    let other = MailServer::start().await?;
    let halves = settings(&mailbox, server.imaps(), other.smtps()).await?;
    let words = fails(halves, &mailbox.password).await?;
    assert!(words.contains("refuses this address with this password (sending mail)"), "{words}");
    let closed = settings(&mailbox, 9, server.smtps()).await?;
    let words = fails(closed, &mailbox.password).await?;
    assert!(words.contains("port 9 (reading mail): nothing listens there"), "{words}");
    // The engine guesses where mail is handed in. Nobody is asked for a name with a label that is so long.
    let domain = format!("{}.invalid", "long".repeat(16));
    let guessed = Settings { address: Some(format!("bridge@{domain}")), smtp: None, ..good.clone() };
    let words = fails(guessed, &mailbox.password).await?;
    let expected = format!("smtp.{domain}, mail.{domain}, {domain} (sending mail): there is no server of any of these");
    assert!(words.contains(&expected), "{words}");
    let missing = Settings { engine: "/no/such/engine".into(), ..good.clone() };
    let words = fails(missing, &mailbox.password).await?;
    assert!(words.contains("/no/such/engine"), "{words}");
    let other = Settings { engine: "/bin/true".into(), ..good };
    let words = fails(other, &mailbox.password).await?;
    assert!(words.contains("engine"), "{words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_the_engine_found_by_itself_are_looked_at_too() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let folder = TempDir::new()?;
    let [imap, smtp] = server.starttls();
    let (imaps, smtps) = (server.imaps(), server.smtps());
    // As the engine says it, word for word.
    let said = format!(
        "src/configure.rs:333: configure failed: Entered params: bridge@a.test imap:unset:***:unset:0:Automatic \
         smtp:unset:0:unset:0:Automatic cert_strict. Used params: ***@a.test imap:[{nobody}:993:tls, \
         localhost:{imap}:starttls, localhost:{imaps}:tls] smtp:[localhost:{smtps}:tls, localhost:{smtp}:starttls] \
         cert_strict. Error: Could not find your mail server.\n\nPlease check your internet connection..",
        nobody = format_args!("imap.{}.test", "long".repeat(16)),
    );
    let events = json!([
        { "kind": "Warning", "msg": said }, { "kind": "ConfigureProgress", "progress": 0, "comment": "no" },
    ]);
    let orders = json!({ "configured": false, "events": events, "refuse": { "add_or_update_transport": -1 } });
    std::fs::write(folder.path().join("orders.json"), orders.to_string())?;
    let settings = Settings {
        address: Some("bridge@a.test".to_owned()),
        engine: crate::ordered::engine(folder.path())?,
        ..Settings::default()
    };
    let error = set_up(context(folder.path(), &Arc::default()), settings, "a password").await.expect_err("no login");
    let expected = format!("localhost port {imap} (reading mail): no public authority signed its certificate");
    assert!(format!("{error:#}").contains(&expected), "{error:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_works_over_starttls() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mut bridge = Bridge::new(server).await?;
    bridge.settings = over_starttls(&bridge.settings, server);
    bridge.folder = TempDir::new()?;
    bridge.intake = Arc::default();
    let mailbox = server.mailbox("bridge")?;
    bridge.settings.address = Some(mailbox.address.clone());
    let shown =
        set_up(context(bridge.folder.path(), &bridge.intake), bridge.settings.clone(), &mailbox.password).await?;
    let running = bridge.start_without_waiting().await?;
    let ann = DeltaPerson::new_on(server, "ann").await?;
    let chat = ann.join(shown.links.last().context("it shows an invitation")?).await?;
    let said = ann.send(chat, "over STARTTLS").await?;
    running.accepted(&said.id).await?;
    running.stop().await
}

/// Waits until an account that runs is in trouble, and gives what a closer look finds.
async fn looked_into(running: &Running) -> Result<String> {
    until("it is seen", || !running.transport.health().connected).await?;
    let findings = running.transport.doctor().await;
    Ok(findings.first().context("nothing is found")?.words.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_that_is_not_taken_any_more_is_said_of_an_account_that_runs_until_it_is_taken_again() -> Result<()> {
    if !sealbridge_lab::mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let bridge = Bridge::new(&server).await?;
    let running = bridge.start().await?;
    server.lock_out(true).await?;
    let refused = "the mail server refuses this address with this password (reading mail)";
    let health = || running.transport.health();
    until("it is said", || health().trouble.is_some_and(|trouble| trouble.starts_with(refused))).await?;
    let found = looked_into(&running).await?;
    assert!(found.starts_with(refused), "{found}");
    server.lock_out(false).await?;
    until("it is taken again", || health().connected && health().trouble.is_none()).await?;
    assert!(running.transport.doctor().await.is_empty());
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closer_look_at_an_account_that_runs_asks_the_engine_which_servers_it_uses() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let wires = [Relay::before(server.imaps()).await?, Relay::before(server.smtps()).await?];
    let (mailbox, [imap, smtp]) = (server.mailbox("bridge")?, wires.each_ref().map(Relay::port));
    let mut bridge = Bridge::on(&mailbox, imap, smtp, Arc::default()).await?;
    (bridge.settings.imap, bridge.settings.smtp) = (None, None);
    let running = bridge.start().await?;
    wires.iter().for_each(Relay::cut);
    let found = looked_into(&running).await?;
    let expected = format!("localhost port {imap} (reading mail): TLS fails: the connection ends in the middle of it");
    assert_eq!(found, expected);
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_up_again_makes_nothing_twice() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let context = || context(bridge.folder.path(), &bridge.intake);
    let again = set_up(context(), bridge.settings.clone(), "not asked for").await?;
    assert!(again.words.iter().any(|words| words.contains(bridge.group.as_str())), "the group is another one");
    let two = Settings { groups: vec!["Family".to_owned(), "Work".to_owned()], ..bridge.settings.clone() };
    assert_eq!(set_up(context(), two, "not asked for").await?.links.len(), 3, "a group is made later too");
    let other = Settings { address: Some("other@example.org".to_owned()), ..bridge.settings.clone() };
    let error = set_up(context(), other, "never").await.expect_err("it is another account");
    assert!(error.to_string().contains("was set up for"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_that_others_could_open_is_closed_to_them_when_the_account_is_set_up_and_whenever_it_runs() -> Result<()>
{
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let accounts = bridge.folder.path();
    let open = || std::fs::set_permissions(accounts, std::fs::Permissions::from_mode(0o755));
    let mode = || Ok::<_, std::io::Error>(std::fs::metadata(accounts)?.permissions().mode() & 0o777);
    // Whatever made the folder, and with whatever mask: it is as open as folders usually are.
    open()?;
    assert_eq!(mode()?, 0o755);
    set_up(context(accounts, &bridge.intake), bridge.settings.clone(), "not asked for").await?;
    assert_eq!(mode()?, 0o700, "after it was set up");
    open()?;
    let running = bridge.start().await?;
    assert_eq!(mode()?, 0o700, "while it runs");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_of_an_account_that_its_first_login_makes_is_made_up_and_told() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mailbox = server.mailbox("bridge")?;
    let settings = settings(&mailbox, server.imaps(), server.smtps()).await?;
    let folder = TempDir::new()?;
    let mut flow = Setup::new(context(folder.path(), &Arc::default()), settings);
    let asked = flow.next(None).await?;
    assert!(matches!(&asked, Step::Ask(field) if field.name == "password"), "{asked:?}");
    let told = flow.next(Some(Answer::Text("".into()))).await?;
    assert!(
        matches!(&told, Step::Secret { name: Some("password"), value, .. } if value.as_str().len() >= 20),
        "{told:?}"
    );
    // This server makes no accounts, and knows another password.
    let refused = loop {
        match flow.next(None).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, FlowError::Refused(_)), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_on_a_relay_is_made_by_its_code_and_its_first_login_and_is_nobody_elses_from_then_on() -> Result<()> {
    if !sealbridge_lab::mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let mailbox = server.mailbox("nobody")?;
    server.make_accounts().await?;
    let (_, domain) = mailbox.address.split_once('@').context("an address has a domain")?;
    let question = SHEET.settings.iter().find(|question| question.key == "address").context("it is asked for")?;
    let address = (question.read)(&format!("DCACCOUNT:{domain}")).map_err(anyhow::Error::msg)?;
    let settings = Settings { address: Some(address), ..settings(&mailbox, server.imaps(), server.smtps()).await? };
    let (folder, intake) = (TempDir::new()?, Arc::default());
    let shown = set_up(context(folder.path(), &intake), settings.clone(), "").await?;
    let made = shown.made.context("it says which password it made")?;

    let [own_link, link] = shown.links.as_slice() else { anyhow::bail!("{} invitations", shown.links.len()) };
    let group = shown.words.last().and_then(|words| words.rsplit_once("called ")).context("the group has a name")?;
    let group = ConversationId::new(group.1.trim_end_matches('.'));
    let (link, own_link, clock) = (link.clone(), own_link.clone(), sealbridge_contract::Clock::system());
    let bridge = Bridge { settings: settings.clone(), folder, intake, clock, link, own_link, group };
    let running = bridge.start().await?;
    let ann = DeltaPerson::new_on(&server, "ann").await?;
    let chat = ann.join(&bridge.link).await?;
    let said = ann.send(chat, "to a new address").await?;
    running.accepted(&said.id).await?;
    running.insist("from a new address", &running.slip(&bridge.group)).await?;
    ann.wait_for(|seen| seen.text == "from a new address", SOON).await?;
    running.stop().await?;

    let words = fails(settings.clone(), "another password").await?;
    assert!(words.contains("refuses this address with this password"), "{words}");
    set_up(context(TempDir::new()?.path(), &Arc::default()), settings, &made).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_account_gives_the_invitation_to_its_group_and_to_no_other_chat() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let running = bridge.start().await?;
    let invitation = running.transport.invitation(&bridge.group).await?;
    let link = invitation.map(|invitation| invitation.link.as_str().to_owned()).context("it has invitations")?;
    // The engine makes a new secret for each; what comes before is the account and the group.
    let group = |link: &str| link.split_once("&i=").map(|(before, _)| before.to_owned());
    assert!(group(&link).is_some() && group(&link) == group(&bridge.link), "{link} is not like {}", bridge.link);
    let nowhere = running.transport.invitation(&ConversationId::new("10-0123456789ab")).await;
    assert!(nowhere.is_err(), "{nowhere:?}");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_file_that_others_can_read_is_refused() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mailbox = server.mailbox("bridge")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("{}\n", mailbox.password))?;
    let settings = Settings {
        password_file: Some(file.path().to_owned()),
        ..settings(&mailbox, server.imaps(), server.smtps()).await?
    };
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
    let words = fails(settings.clone(), "never asked").await?;
    assert!(words.contains("others can read this file"), "{words}");
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600))?;
    let folder = TempDir::new()?;
    set_up(context(folder.path(), &Arc::default()), settings, "never asked").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_whose_account_was_replaced_is_not_run() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let (bridge, other) = tokio::try_join!(Bridge::new(server), Bridge::new(server))?;
    let accounts = |bridge: &Bridge| bridge.folder.path().join("accounts");
    std::fs::remove_dir_all(accounts(&bridge))?;
    std::fs::rename(accounts(&other), accounts(&bridge))?;
    let fatal = bridge.start_without_waiting().await?.ended().await?;
    assert!(matches!(&fatal, Fatal::Policy(words) if words.contains("another key")), "{fatal:?}");
    std::fs::remove_dir_all(accounts(&bridge))?;
    let fatal = bridge.start_without_waiting().await?.ended().await?;
    assert!(matches!(fatal, Fatal::Auth(_)), "{fatal:?}");
    Ok(())
}

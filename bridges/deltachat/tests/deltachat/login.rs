//! Setting up, and what is said when it can't be done.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use anyhow::{Context as _, Result};
use sealbridge_contract::{Answer, ConversationId, Fatal, Flow as _, FlowError, Step, conformance::MemoryIntake};
use sealbridge_deltachat::{CertificateChecks, Settings, Setup};
use sealbridge_lab::MailServer;
use tempfile::TempDir;

use crate::bridge::{Bridge, context, set_up, settings};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_really_wrong_with_the_mail_server_is_said() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let mailbox = server.mailbox("bridge")?;
    let good = settings(&mailbox, server.imaps(), server.smtps()).await?;
    let strict = Settings { certificate_checks: CertificateChecks::Strict, ..good.clone() };
    let words = fails(strict, &mailbox.password).await?;
    assert!(words.contains("no public authority signed its certificate"), "{words}");
    let words = fails(good.clone(), "a wrong password").await?;
    assert!(words.contains("refuses this address with this password"), "{words}");
    let closed = settings(&mailbox, 9, server.smtps()).await?;
    let words = fails(closed, &mailbox.password).await?;
    assert!(words.contains("port 9 (reading mail): nothing listens there"), "{words}");
    let missing = Settings { engine: "/no/such/engine".into(), ..good.clone() };
    let words = fails(missing, &mailbox.password).await?;
    assert!(words.contains("/no/such/engine"), "{words}");
    let other = Settings { engine: "/bin/true".into(), ..good };
    let words = fails(other, &mailbox.password).await?;
    assert!(words.contains("engine"), "{words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_up_again_makes_nothing_twice_and_keeps_the_folder_private() -> Result<()> {
    let Some(server) = MailServer::shared().await? else { return Ok(()) };
    let bridge = Bridge::new(server).await?;
    let mode = std::fs::metadata(bridge.folder.path())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
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

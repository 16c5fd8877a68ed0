//! A real Alertmanager that is given alerts of their own names all the while, of which every other one ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;

use crate::{Person, alerts::Alertmanager};

/// Between two alerts.
const PAUSE: Duration = Duration::from_millis(1500);
/// The machine on which all of them are.
const INSTANCE: &str = "db-1";

/// Gives it alerts until `stop`, and says what they are called. Ends every other one that `person` has heard of in `room`:
/// of one that it was never told of an Alertmanager tells no end.
pub(super) async fn give(
    alertmanager: &Alertmanager,
    run: &str,
    (person, room): (Arc<Person>, String),
    stop: &AtomicBool,
) -> Result<Vec<String>> {
    let (mut given, mut go_on) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let name = format!("notice-{run}-alertmanager-{}", given.len());
        alertmanager.fire(&name, INSTANCE, "the disk is full").await?;
        if given.len() % 2 == 0 {
            go_on.push(name.clone());
        }
        given.push(name);
        let heard = person.messages_in(&room);
        let says = |body: &str, name: &str| body.split_whitespace().any(|word| word == name);
        let is_heard = |name: &String| heard.iter().any(|message| says(&message.body, name));
        let (over, still) = go_on.into_iter().partition::<Vec<_>, _>(is_heard);
        go_on = still;
        for name in over {
            alertmanager.resolve(&name, INSTANCE).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(given)
}

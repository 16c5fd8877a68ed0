//! A child that dies is started again, later each time, and not for ever.

use std::time::Duration;

use sealbridge_child::{GivenUp, Patience, Program, Supervisor};
use tokio::time::Instant;

use crate::program;

const PATIENCE: Patience = Patience {
    first: Duration::from_millis(20),
    longest: Duration::from_millis(80),
    steady: Duration::from_secs(60),
    starts: 5,
};

#[tokio::test]
async fn child_that_dies_is_started_again_later_each_time_until_it_is_too_often() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let mut supervisor = Supervisor::new(program(&folder), PATIENCE);
    let mut last = None;
    for least in [0, 20, 40, 80, 80] {
        let asked = Instant::now();
        let child = supervisor.next().await.expect("it is started again");
        assert!(asked.elapsed() >= Duration::from_millis(least), "after {:?}", asked.elapsed());
        child.call::<()>("kill", ()).await.expect_err("it dies");
        assert_ne!(Some(child.pid()), last);
        last = Some(child.pid());
    }
    let error = supervisor.next().await.expect_err("it died too often");
    assert!(matches!(error, GivenUp::DiesAgain(5)), "{error:?}");
}

#[tokio::test]
async fn child_that_was_of_use_may_die_as_often_as_it_likes() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let mut supervisor = Supervisor::new(program(&folder), PATIENCE);
    for _ in 0..8 {
        let child = supervisor.next().await.expect("it is started");
        supervisor.is_useful();
        child.stop().await;
    }
}

#[tokio::test]
async fn child_that_lived_long_is_started_again_as_if_it_were_the_first() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let patience = Patience { steady: Duration::ZERO, ..PATIENCE };
    let mut supervisor = Supervisor::new(program(&folder), patience);
    for _ in 0..4 {
        supervisor.next().await.expect("it is started").stop().await;
    }
    let asked = Instant::now();
    supervisor.next().await.expect("it is started");
    assert!(asked.elapsed() < Duration::from_millis(79), "it waited {:?}", asked.elapsed());
}

#[tokio::test]
async fn binary_that_is_not_there_is_said_at_once() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let mut supervisor = Supervisor::new(Program::new(folder.path().join("nothing"), folder.path()), PATIENCE);
    assert!(matches!(supervisor.next().await, Err(GivenUp::CannotRun(_))));
}

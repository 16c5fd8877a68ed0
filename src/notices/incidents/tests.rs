//! What is kept of an incident as it begins, changes and ends.

use super::*;

fn incident(alerts: &[(&str, bool)]) -> Incident {
    let alert = |(name, firing): &(&str, bool)| Alert {
        fingerprint: (*name).to_owned(),
        firing: *firing,
        severity: Severity::Warning,
        values: json!({ "name": name }),
    };
    Incident { group: "g".into(), alerts: alerts.iter().map(alert).collect(), ..Incident::default() }
}

fn hear(known: Option<Known>, alerts: &[(&str, bool)], at: i64) -> (Step, Known) {
    Known::hear(known, &incident(alerts), &Value::Null, RemoteId::new(format!("root-{at}")), Timestamp(at))
}

#[test]
fn windows_of_differences_lose_no_resolution() {
    // As Alertmanager tells of two alerts that end one after the other: each request has only what changed.
    let (step, known) = hear(None, &[("a", true), ("b", true)], 1);
    assert_eq!(step, Step::Begins);
    let (step, known) = hear(Some(known), &[("a", false), ("b", true)], 2);
    assert_eq!(step, Step::Changes { began: vec![], worsened: vec![], ended: vec!["a".into()] });
    assert_eq!((known.firing(), known.alerts["b"].since), (1, Timestamp(1)));
    let (step, known) = hear(Some(known), &[("b", false)], 3);
    assert_eq!(step, Step::Ends { ended: vec!["b".into()] });
    assert_eq!((known.firing(), known.alerts.len()), (0, 2));
    assert_eq!(known.root, RemoteId::new("root-1"));
}

#[test]
fn what_is_told_again_is_counted_and_said_once() {
    let (_, known) = hear(None, &[("a", true)], 1);
    let (step, known) = hear(Some(known), &[("a", true)], 2);
    assert_eq!((step, known.repeats), (Step::Repeats, 1));
    let (step, known) = hear(Some(known), &[("b", true)], 3);
    assert_eq!((step, known.repeats), (Step::Changes { began: vec!["b".into()], worsened: vec![], ended: vec![] }, 0));
}

#[test]
fn whoever_looks_after_it_has_not_seen_what_began_since() {
    let (_, known) = hear(None, &[("a", true), ("b", true)], 1);
    let acknowledged = Some(Acknowledged { by: "Ann".into(), id: None, at: Timestamp(2), proven: false });
    let known = Known { acknowledged: acknowledged.clone(), ..known };
    let (_, known) = hear(Some(known), &[("a", false)], 3);
    assert_eq!(known.acknowledged, acknowledged, "less is wrong than they know");
    let (_, known) = hear(Some(known), &[("c", true)], 4);
    assert_eq!(known.acknowledged, None);
}

/// Alerts that began then, in minutes, as their sender says.
fn outbreaks(alerts: &[(&str, i64)]) -> Incident {
    let mut incident = incident(&alerts.iter().map(|(name, _)| (*name, true)).collect::<Vec<_>>());
    for (alert, (_, at)) in incident.alerts.iter_mut().zip(alerts) {
        alert.values["starts_at"] = format!("2026-11-30T10:{at:02}:00Z").into();
    }
    incident.dated = true;
    incident
}

fn hear_outbreaks(known: Option<Known>, alerts: &[(&str, i64)], at: i64) -> (Step, Known) {
    Known::hear(known, &outbreaks(alerts), &Value::Null, RemoteId::new(format!("root-{at}")), Timestamp(at))
}

#[test]
fn outbreak_after_an_end_that_nobody_heard_is_news_and_nobody_looks_after_it() {
    let acknowledged = Some(Acknowledged { by: "Ann".into(), id: None, at: Timestamp(2), proven: false });
    let (_, known) = hear_outbreaks(None, &[("a", 1), ("b", 1)], 1);
    let known = Known { acknowledged: acknowledged.clone(), ..known };
    // As two servers that watch the same may say it.
    let (step, known) = hear_outbreaks(Some(known), &[("a", 1), ("b", 1)], 2);
    assert_eq!((step, &known.acknowledged), (Step::Repeats, &acknowledged));
    assert!(!known.ended_unheard(&outbreaks(&[("a", 1), ("b", 1)])));
    // One of them began anew, while the other goes on.
    assert!(!known.ended_unheard(&outbreaks(&[("a", 30)])));
    let (step, known) = hear_outbreaks(Some(known), &[("a", 30), ("b", 1)], 3);
    assert_eq!(step, Step::Changes { began: vec!["a".into()], worsened: vec![], ended: vec![] });
    assert_eq!((known.acknowledged.clone(), known.alerts["a"].since), (None, Timestamp(3)));
    // All of them did.
    assert!(known.ended_unheard(&outbreaks(&[("a", 50), ("b", 50), ("c", 50)])));
    assert!(!known.ended_unheard(&incident(&[("a", false), ("b", false)])));
    let over = Known { silenced_until: Some(Timestamp(9)), ..known }.over();
    assert_eq!((over.firing(), over.silenced_until, over.alerts.len()), (0, None, 2));
    assert!(!over.ended_unheard(&outbreaks(&[("a", 55)])), "its end was heard");
}

#[test]
fn later_beginning_by_a_sender_who_does_not_say_when_it_began_is_the_same_outbreak() {
    let undated = |at| Incident { dated: false, ..outbreaks(&[("a", at)]) };
    let hear = |known, at| Known::hear(known, &undated(at), &Value::Null, RemoteId::new("root"), Timestamp(at));
    let (_, known) = hear(None, 1);
    assert!(!known.ended_unheard(&undated(30)));
    let (step, known) = hear(Some(known), 30);
    assert_eq!((step, known.firing(), known.alerts["a"].since), (Step::Repeats, 1, Timestamp(1)));
    assert_eq!(known.alerts["a"].values["starts_at"], "2026-11-30T10:01:00Z");
}

#[test]
fn what_is_told_of_is_not_silenced_any_more() {
    let (_, known) = hear(None, &[("a", true), ("b", true)], 1);
    let known = Known { silenced_until: Some(Timestamp(1_000)), ..known };
    let (_, other) = hear(Some(known.clone()), &[("c", true), ("a", false)], 2);
    assert_eq!(other.silenced_until, Some(Timestamp(1_000)), "it may be another that is told of");
    let (_, known) = hear(Some(known), &[("b", true)], 3);
    assert_eq!(known.silenced_until, None);
}

#[test]
fn what_begins_after_somebody_else_was_told_is_told_to_them_too() {
    let (_, known) = hear(None, &[("a", true)], 1);
    let known = Known { escalated: Some(RemoteId::new("e")), ..known };
    let (_, known) = hear(Some(known), &[("a", true)], 2);
    assert!(!known.more_since);
    let (_, known) = hear(Some(known), &[("b", true)], 3);
    assert!(known.more_since);
}

#[test]
fn end_of_what_is_not_known_is_said_for_itself() {
    assert_eq!(hear(None, &[("a", false)], 1).0, Step::EndsUnknown);
}

#[test]
fn incident_without_end_takes_no_more_than_its_room() {
    let names: Vec<_> = (0..3 * MOST_ALERTS).map(|number| format!("alert {number}")).collect();
    let mut known = None;
    for (at, some) in (0..).zip(names.chunks(500)) {
        let some: Vec<_> = some.iter().map(|name| (name.as_str(), true)).collect();
        known = Some(hear(known, &some, at).1.to_keep().into_owned());
    }
    let known = known.expect("it is known");
    assert_eq!((known.alerts.len(), known.firing()), (MOST_ALERTS, MOST_ALERTS));
    // What has no room is said all the same, each time anew.
    for at in [1 << 18, 1 << 19] {
        let (step, more) = hear(Some(known.clone()), &[("more", true)], at);
        assert_eq!(step, Step::Changes { began: vec!["more".into()], worsened: vec![], ended: vec![] });
        assert!(more.course().iter().any(|alert| alert.fingerprint == "more"));
        assert_eq!(more.to_keep().alerts, known.alerts);
    }
    // One that ends makes room for another.
    let (_, known) = hear(Some(known), &[("alert 7", false)], 1 << 20);
    let (step, known) = hear(Some(known), &[("fresh", true)], 1 << 21);
    assert_eq!(step, Step::Changes { began: vec!["fresh".into()], worsened: vec![], ended: vec![] });
    assert!(known.alerts.len() == MOST_ALERTS && !known.alerts.contains_key("alert 7"));
}

#[test]
fn as_many_alerts_as_one_request_brings_are_known_again_and_none_of_them_is_over_with_the_others() {
    let names: Vec<_> = (0..MOST_ALERTS).map(|number| format!("alert {number}")).collect();
    let all = |firing| names.iter().map(|name| (name.as_str(), firing)).collect::<Vec<_>>();
    let (step, known) = hear(None, &all(true), 1);
    assert_eq!((step, known.firing()), (Step::Begins, MOST_ALERTS));
    let acknowledged = Some(Acknowledged { by: "Ann".into(), id: None, at: Timestamp(2), proven: false });
    let (step, known) = hear(Some(Known { acknowledged: acknowledged.clone(), ..known }), &all(true), 3);
    assert_eq!((step, known.acknowledged.clone()), (Step::Repeats, acknowledged));
    let kept = known.alerts.values().map(|alert| alert.values.clone()).collect::<Vec<_>>();
    let kept = serde_json::to_vec(&kept).expect("values").len();
    assert!(kept < MOST_ALERTS * 40, "{kept}");
    let (step, known) = hear(Some(known), &all(false)[1..], 4);
    assert!(matches!(step, Step::Changes { .. }) && known.firing() == 1);
    assert_eq!(hear(Some(known), &all(false)[..1], 5).0, Step::Ends { ended: vec![names[0].clone()] });
}

#[test]
fn alert_that_matters_more_than_it_did_is_news_and_nobody_looks_after_that_yet() {
    let alert = |fingerprint: &str, firing, severity| Alert {
        fingerprint: fingerprint.into(),
        firing,
        severity,
        values: Value::Null,
    };
    let tells = |known, alerts| {
        let incident = Incident { group: "g".into(), alerts, ..Incident::default() };
        Known::hear(known, &incident, &Value::Null, RemoteId::new("root"), Timestamp(1))
    };
    let both = |severity| vec![alert("a", true, severity), alert("b", true, Severity::Warning)];
    let (_, known) = tells(None, both(Severity::Warning));
    let acknowledged = Some(Acknowledged { by: "Ann".into(), id: None, at: Timestamp(1), proven: false });
    let known = Known { acknowledged, escalated: Some(RemoteId::new("e")), ..known };
    // Another that ends or begins beside it takes nothing of that.
    let ends = vec![alert("a", true, Severity::Critical), alert("b", false, Severity::Warning)];
    let mut begins = both(Severity::Critical);
    begins.push(alert("c", true, Severity::Info));
    for alerts in [both(Severity::Critical), ends, begins] {
        let (step, now) = tells(Some(known.clone()), alerts);
        assert!(matches!(&step, Step::Changes { worsened, .. } if *worsened == ["a"]), "{step:?}");
        assert_eq!(now.news(&step), Severity::Critical, "{step:?}");
        assert!(now.acknowledged.is_none() && !now.is_escalated());
    }
    // What matters less is seen in its message.
    let (_, worse) = tells(Some(known.clone()), both(Severity::Critical));
    let acknowledged = known.acknowledged.clone();
    let (step, now) = tells(Some(Known { acknowledged, ..worse }), both(Severity::Warning));
    assert_eq!(step, Step::Changes { began: vec![], worsened: vec![], ended: vec![] });
    assert!(now.acknowledged.is_some());
}

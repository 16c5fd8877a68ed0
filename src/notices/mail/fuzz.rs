//! Whatever somebody says in the place of SMTP.

use super::session::{Session, Sources as _, Step, tests::Two};

#[test]
fn words_of_programs_that_mail() {
    let sources = Two::new();
    sealbridge_fuzz::target("smtp", |input| {
        // However it is cut, the same is done.
        let done = |pace: usize| {
            let (mut session, mut done) = (Session::new(200), String::new());
            for mut bytes in input.chunks(pace) {
                while !bytes.is_empty() {
                    let before = bytes.len();
                    let step = session.hear(&mut bytes, &sources);
                    assert!(bytes.len() < before, "nothing is heard of it");
                    if let Some(Step::Mail { to, mail }) = &step {
                        assert!(mail.len() <= 200 && !to.is_empty());
                        assert!(to.iter().all(|to| sources.named(to.as_str()).is_some()));
                    }
                    done.push_str(&format!("{step:?}"));
                    if let Some(Step::Part(_)) = step {
                        return done.replace("None", "");
                    }
                }
            }
            done.replace("None", "")
        };
        assert_eq!(done(1), done(input.len().max(1)));
    });
}

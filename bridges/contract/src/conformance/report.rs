//! What came of it.

use std::fmt;

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise is kept.
    Passed,
    /// This network has no such thing; says why.
    NotApplicable(String),
    /// The promise is not kept; says how.
    Failed(String),
}

/// What became of all cases, in their order.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Report {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    case: &'static str,
    outcome: Outcome,
    remarks: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, case: &'static str, outcome: Outcome, remarks: Vec<String>) {
        self.entries.push(Entry { case, outcome, remarks });
    }

    /// Whether something was tried and nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.count() > (0, 0) && self.failed().next().is_none()
    }

    /// The names of the cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Failed(_))).map(|entry| entry.case)
    }

    /// What became of a case.
    #[must_use]
    pub fn outcome(&self, case: &str) -> Option<&Outcome> {
        self.entries.iter().find(|entry| entry.case == case).map(|entry| &entry.outcome)
    }

    /// How many passed, and how many are not applicable.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let passed = self.entries.iter().filter(|entry| entry.outcome == Outcome::Passed).count();
        (passed, self.entries.len() - passed - self.failed().count())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { case, outcome, remarks } in &self.entries {
            match outcome {
                Outcome::Passed => writeln!(f, "passed          {case}")?,
                Outcome::NotApplicable(why) => writeln!(f, "not applicable  {case}: {why}")?,
                Outcome::Failed(how) => writeln!(f, "FAILED          {case}: {how}")?,
            }
            for remark in remarks {
                writeln!(f, "                  {remark}")?;
            }
        }
        let (passed, not_applicable) = self.count();
        write!(f, "{passed} passed, {not_applicable} not applicable, {} failed", self.failed().count())
    }
}

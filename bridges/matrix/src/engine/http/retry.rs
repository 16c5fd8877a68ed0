//! Repeats a setup call while its failure is transient. Running traffic keeps its own policy.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::HttpError;

/// How often and how long a setup call is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    pub attempts: u32,
    pub first: Duration,
    pub longest: Duration,
    pub total: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 6,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(15),
            total: Duration::from_secs(60),
        }
    }
}

impl Retries {
    /// Not again: whoever asks has the next try of its own.
    pub fn once() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    fn pause(&self, attempt: u32, error: &HttpError) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.min(16)).min(self.longest);
        let jittered = doubled.mul_f64(0.5 + f64::from(random_u32()) / f64::from(u32::MAX) / 2.0);
        error.retry_after().map_or(jittered, |asked| asked.max(jittered))
    }
}

/// Calls `f` until it succeeds, fails for good, or the policy is spent; waits at least as long as the server asks.
pub async fn retrying<T, F, Fut>(policy: Retries, mut f: F) -> Result<T, HttpError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, HttpError>>,
{
    let deadline = Instant::now() + policy.total;
    let mut attempt = 0;
    loop {
        let error = match f().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempt += 1;
        let pause = policy.pause(attempt - 1, &error);
        if !error.is_transient() || attempt >= policy.attempts || Instant::now() + pause > deadline {
            return Err(error);
        }
        sleep(pause).await;
    }
}

fn random_u32() -> u32 {
    // Without randomness the pauses lose their jitter, nothing else.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{super::HttpErrorKind, *};

    async fn calls_until_settled(kind: HttpErrorKind, succeed_at: u32) -> (u32, bool) {
        let calls = Cell::new(0);
        let policy = Retries { first: Duration::from_millis(1), ..Retries::default() };
        let result = retrying(policy, || {
            calls.set(calls.get() + 1);
            let done = calls.get() >= succeed_at;
            let kind = kind.clone();
            async move { if done { Ok(()) } else { Err(HttpError::new(kind)) } }
        })
        .await;
        (calls.get(), result.is_ok())
    }

    #[tokio::test]
    async fn only_transient_failures_are_repeated() {
        assert_eq!(calls_until_settled(HttpErrorKind::Network, 3).await, (3, true));
        assert_eq!(calls_until_settled(HttpErrorKind::Timeout, 99).await, (6, false));
        assert_eq!(calls_until_settled(HttpErrorKind::Malformed, 2).await, (1, false));
    }

    #[test]
    fn server_is_never_asked_again_before_it_allows() {
        let asked = Duration::from_secs(9);
        let error = HttpError::new(HttpErrorKind::Limited { retry_after: Some(asked) });
        assert!(Retries::default().pause(0, &error) >= asked);
    }
}

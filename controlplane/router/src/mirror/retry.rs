use std::{fmt::Display, time::Duration};

use tokio::time::sleep;
use tracing::warn;

/// The waits between attempts: about 13 s in all. Longer than that the table would not be the
/// kernel's, and nobody would know.
const WAITS: [Duration; 7] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_secs(5),
    Duration::from_secs(5),
];

/// Tries until it succeeds, or fails once more than there are waits.
pub(super) async fn retry<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    for wait in WAITS {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => warn!(%error, ?wait, "{what} failed, and is tried again"),
        }
        sleep(wait).await;
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// How many attempts it takes when so many fail.
    async fn attempts(failures: usize) -> Result<usize, String> {
        let mut made = 0;
        retry("a test", || {
            made += 1;
            ready(if made > failures {
                Ok(made)
            } else {
                Err(format!("failure {made}"))
            })
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_no_end_but_eight_are() {
        assert_eq!(attempts(0).await, Ok(1));
        assert_eq!(attempts(1).await, Ok(2));
        assert_eq!(attempts(7).await, Ok(8));
        assert_eq!(attempts(8).await, Err("failure 8".to_owned()));
    }
}

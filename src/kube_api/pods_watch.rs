//! Keeps asking which pods there may be, while an empty disk waits.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::KubeApi;
use crate::observation::PodsWanted;
use crate::peers::Resolve;

/// How long one answer may take: nobody waits longer for it.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is asked: claims may be deleted, and the API may come back.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a failure that may be over in a moment is no answer: a pod's network may come up after the pod.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon it is asked again meanwhile.
const PAUSE_AT_FIRST: Duration = Duration::from_millis(500);

/// The last answer, if one has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Failure,
    Pods(PodsWanted),
}

/// A task that asks; it ends with this.
pub struct PodsWatch {
    told: watch::Receiver<Told>,
    task: JoinHandle<()>,
}

impl PodsWatch {
    /// Starts asking.
    pub fn start<R: Resolve + Send + Sync + 'static>(api: KubeApi<R>, ordinal_start: u32) -> Self {
        let (publish, told) = watch::channel(Told::Nothing);
        let task = tokio::spawn(async move {
            let mut said = String::new();
            let patient_until = Instant::now() + PATIENCE;
            loop {
                let mut pause = PAUSE;
                match api.pods_wanted(ordinal_start, Instant::now() + ANSWER).await {
                    Ok(pods) => drop(publish.send_replace(Told::Pods(pods))),
                    Err(failure) => {
                        let reason = failure.to_string();
                        if reason != said {
                            let hint = failure.hint();
                            tracing::info!(hint, "the Kubernetes API does not tell which pods there may be: {reason}");
                            said = reason;
                        }
                        // What it told once is no less true.
                        let is_untold = *publish.borrow() == Told::Nothing;
                        if is_untold && failure.is_transient() && Instant::now() < patient_until {
                            pause = PAUSE_AT_FIRST;
                        } else if is_untold {
                            publish.send_replace(Told::Failure);
                        }
                    }
                }
                sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
            }
        });
        Self { told, task }
    }

    /// Neither an answer nor a lasting failure has come yet.
    pub fn is_awaited(&self) -> bool {
        *self.told.borrow() == Told::Nothing
    }

    /// What it told.
    pub fn pods(&self) -> Option<PodsWanted> {
        match &*self.told.borrow() {
            Told::Pods(pods) => Some(pods.clone()),
            Told::Nothing | Told::Failure => None,
        }
    }

    /// Waits until there is something new.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            // The task only ends with this.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for PodsWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

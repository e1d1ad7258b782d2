//! Scenarios on a real cluster, with everything in manifests/ as it is: `make test-kubernetes`.

#![expect(clippy::unwrap_used, reason = "a scenario ends where it fails")]

pub mod harness;

mod certificates;
mod founding;
mod images;
mod life;
mod nodes;
mod ordered;
mod sidecar;
mod stock_image;
mod take_over;
mod validation;

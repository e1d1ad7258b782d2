//! What the sidecar shows for the pod's life, on `BOOTSTRAP_STATUS_ADDRESS`.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use super::certificates::{self, Certificate};
use super::member::Report;
use super::page;
use super::taken::Taken;
use crate::flags::EtcdSettings;
use crate::http_server::{Request, Response, response};
use crate::metrics::{self, Counters};
use crate::status::Status;

const TEXT: &str = "text/plain; charset=utf-8";

/// What the sidecar is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits and decides; etcd does not run, and has no configuration file.
    Preparing,
    /// etcd has its file, and does not run.
    Starting,
    /// etcd runs.
    Running,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Preparing, Self::Starting, Self::Running];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
        })
    }
}

/// Shared between the sidecar and its server.
pub struct Board {
    etcd_settings: EtcdSettings,
    written: Mutex<Written>,
}

struct Written {
    phase: Phase,
    why: String,
    taken: Option<Taken>,
    member: Option<Report>,
    starts: u64,
    status: watch::Receiver<Arc<Status>>,
    counters: Arc<Counters>,
}

#[derive(Serialize)]
struct Picture<'a> {
    phase: Phase,
    why: &'a str,
    decision: &'a Option<Taken>,
    member: &'a Option<Report>,
    certificates: Vec<Certificate>,
    etcd_starts: u64,
    bootstrap: &'a Status,
}

impl Board {
    /// With nothing on it but what the first observation says, and what an earlier life of this process decided.
    pub fn new(etcd_settings: EtcdSettings, status: watch::Receiver<Arc<Status>>, taken: Option<Taken>) -> Self {
        let why = "it has not looked yet".to_owned();
        let written =
            Written { phase: Phase::Preparing, why, taken, member: None, starts: 0, status, counters: Arc::default() };
        Self { etcd_settings, written: Mutex::new(written) }
    }

    /// Where the observations come from now on.
    pub fn follow(&self, status: watch::Receiver<Arc<Status>>, counters: Arc<Counters>) {
        let mut written = self.written();
        (written.status, written.counters) = (status, counters);
    }

    /// What it is at; logged where that changes.
    pub fn set_phase(&self, phase: Phase, why: impl Into<String>) {
        let (mut written, why) = (self.written(), why.into());
        if (written.phase, &written.why) != (phase, &why) {
            tracing::info!(%phase, "{why}");
            written.starts += u64::from(phase == Phase::Running && written.phase != Phase::Running);
            (written.phase, written.why) = (phase, why);
        }
    }

    /// etcd may start by this decision.
    pub fn set_taken(&self, taken: Taken) {
        self.written().taken = Some(taken);
    }

    /// This member's numbers; logged where its part or the quorum's margin changes.
    pub fn set_member(&self, member: Option<Report>) {
        let mut written = self.written();
        if let Some(new) = &member {
            let told = |report: &Report| (report.member_id, report.role, report.quorum_margin);
            if written.member.as_ref().map(told) != Some(told(new)) {
                let (id, role, margin) = (new.member_id, new.role, new.quorum_margin);
                tracing::info!(member_id = %id, role = role.as_str(), quorum_margin = ?margin, "this member's part");
            }
        }
        written.member = member;
    }

    /// `/livez`, `/readyz`, `/status` and `/metrics`; 404 for the rest.
    pub fn answer(&self, request: &Request) -> Response {
        if !matches!(request.head.method, Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match request.path() {
            "/livez" => response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.readyz(),
            "/status" => self.status(request.asks("pretty")),
            "/metrics" => response(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics()),
            _ => response(StatusCode::NOT_FOUND, TEXT, "see /livez, /readyz, /status, /metrics and /leave\n"),
        }
    }

    /// Ready is whose etcd runs or has its file: the kubelet starts etcd once this passes.
    fn readyz(&self) -> Response {
        let written = self.written();
        if written.phase != Phase::Preparing {
            return response(StatusCode::OK, TEXT, "ok\n");
        }
        let status = written.status.borrow();
        let reason = format!("etcd-bootstrap is {}: {}\n", status.phase, status.decision.why);
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason)
    }

    fn status(&self, pretty: bool) -> Response {
        let written = self.written();
        let status = Arc::clone(&written.status.borrow());
        let picture = Picture {
            phase: written.phase,
            why: &written.why,
            decision: &written.taken,
            member: &written.member,
            certificates: certificates::read(&self.etcd_settings),
            etcd_starts: written.starts,
            bootstrap: &status,
        };
        let json = if pretty { serde_json::to_string_pretty(&picture) } else { serde_json::to_string(&picture) };
        match json {
            Ok(json) => response(StatusCode::OK, "application/json", json + "\n"),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }

    fn metrics(&self) -> String {
        let certificates = certificates::read(&self.etcd_settings);
        let written = self.written();
        let status = Arc::clone(&written.status.borrow());
        let shown = page::Shown {
            phase: written.phase,
            starts: written.starts,
            member: written.member.as_ref(),
            certificates: &certificates,
        };
        page::text(&shown, &status, &written.counters)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

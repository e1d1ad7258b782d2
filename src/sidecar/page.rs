//! The sidecar's numbers as Prometheus text.

use super::board::Phase;
use super::certificates::Certificate;
use super::member::Report;
use crate::metrics::{self, Counters, Page};
use crate::status::{Role, Status};

/// What is shown besides the last observation.
pub struct Shown<'a> {
    /// What the sidecar is at.
    pub phase: Phase,
    /// How often etcd was seen to start.
    pub starts: u64,
    /// This member, where its etcd answers.
    pub member: Option<&'a Report>,
    /// The certificates.
    pub certificates: &'a [Certificate],
}

/// The page.
pub fn text(shown: &Shown<'_>, status: &Status, counters: &Counters) -> String {
    let mut page = Page::default();
    let phases = Phase::ALL.map(|phase| (format!("{{phase=\"{phase}\"}}"), u8::from(phase == shown.phase)));
    page.family("sidecar_phase", "gauge", "1 for what the sidecar is at: preparing, starting or running.", phases);
    page.one("etcd_starts_total", "counter", "Times that etcd was seen to start beside this process.", shown.starts);
    if let Some(member) = shown.member {
        member_families(&mut page, member);
    }
    let left = |file: &Certificate| {
        let labels = format!("{{setting=\"{}\",path=\"{}\"}}", file.setting, escaped(&file.path.to_string_lossy()));
        Some((labels, format!("{:.3}", file.days_left?)))
    };
    let left: Vec<_> = shown.certificates.iter().filter_map(left).collect();
    page.family("certificate_days_left", "gauge", "Days until the first certificate of a file ends.", left);
    if shown.phase == Phase::Preparing {
        metrics::waiting(&mut page, status);
    }
    metrics::always(&mut page, status, counters);
    page.text()
}

fn member_families(page: &mut Page, member: &Report) {
    let roles = [Role::Leader, Role::Voter, Role::Learner];
    let roles = roles.map(|role| (format!("{{role=\"{}\"}}", role.as_str()), u8::from(role == member.role)));
    page.family("member_role", "gauge", "1 for this member's part: leader, voter or learner.", roles);
    page.one("member_term", "gauge", "This member's raft term.", member.term);
    page.one("member_index", "gauge", "This member's raft index.", member.index);
    if let Some(lag) = member.lag_entries {
        page.one("member_lag_entries", "gauge", "Log entries that the leader has and this member has not.", lag);
    }
    let help = "Voters in touch with the leader less those that a quorum needs: so many more may fail.";
    if let Some(margin) = member.quorum_margin {
        page.one("quorum_margin", "gauge", help, margin);
    }
    page.one("db_size_bytes", "gauge", "The size of this member's database.", member.db_size_bytes);
    page.one("db_quota_bytes", "gauge", "What etcd takes at most.", member.db_quota_bytes);
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::MemberId;
    use crate::status::tests::waiting;

    fn report() -> Report {
        Report {
            member_id: MemberId(1),
            role: Role::Learner,
            term: 3,
            index: 40,
            lag_entries: Some(2),
            quorum_margin: Some(-1),
            db_size_bytes: 5,
            db_quota_bytes: 9,
            version: "3.6.16".to_owned(),
        }
    }

    #[test]
    fn each_line_is_a_comment_or_a_sample_and_every_number_is_there() {
        let certificates = [Certificate { setting: "cert-file", path: "/tls/\"a\"".into(), days_left: Some(29.5) }];
        let member = report();
        let shown = Shown { phase: Phase::Running, starts: 2, member: Some(&member), certificates: &certificates };
        let page = text(&shown, &waiting(), &Counters::default());
        for line in page.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("etcd_bootstrap_") && value.parse::<f64>().is_ok(), "{line}");
        }
        for sample in [
            "etcd_bootstrap_sidecar_phase{phase=\"running\"} 1",
            "etcd_bootstrap_etcd_starts_total 2",
            "etcd_bootstrap_member_role{role=\"learner\"} 1",
            "etcd_bootstrap_member_term 3",
            "etcd_bootstrap_member_index 40",
            "etcd_bootstrap_member_lag_entries 2",
            "etcd_bootstrap_quorum_margin -1",
            "etcd_bootstrap_db_size_bytes 5",
            "etcd_bootstrap_db_quota_bytes 9",
            "etcd_bootstrap_certificate_days_left{setting=\"cert-file\",path=\"/tls/\\\"a\\\"\"} 29.500",
            "etcd_bootstrap_peers{state=\"etcd\"} 3",
        ] {
            assert!(page.lines().any(|line| line == sample), "{sample} is not in\n{page}");
        }
        assert!(!page.contains("waiting_seconds"), "it does not wait");
        let shown = Shown { phase: Phase::Preparing, starts: 0, member: None, certificates: &[] };
        assert!(text(&shown, &waiting(), &Counters::default()).contains("etcd_bootstrap_waiting_seconds"));
    }
}

//! The volumes and what lies there. What `run` makes of it is the decision's finding.

use super::{Facts, Finding, Kept, Severity, Topic};
use crate::observation::{JournalFile, Pairing, Wal};

/// etcd writes its WAL in segments of 64 MiB and has the next one ready; a snapshot needs room beside them.
const FREE_BYTES_MIN: u64 = 256 * MIB;
const MIB: u64 = 1024 * 1024;

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.volumes.problem {
        Some(problem) => findings.push(Finding::of_problem(Topic::Disk, problem)),
        None => findings.extend(contents(facts)),
    }
    findings.extend(facts.volumes.spaces.iter().filter_map(space));
    findings.extend(facts.volumes.archives.iter().map(|(path, bytes)| Finding {
        severity: Severity::Ok,
        topic: Topic::Disk,
        what: format!("data that was put aside lies in `{}`: {} MiB", path.display(), bytes.div_ceil(MIB)),
        fix: "delete it when nobody wants it any more; the next archive replaces it".to_owned(),
    }));
    findings
}

fn space(space: &super::Space) -> Option<Finding> {
    let path = space.path.display();
    if space.kept == Kept::WithContainer {
        return Some(Finding::warning(
            Topic::Disk,
            format!("`{path}` is on no volume: what is written there goes with the container"),
            "mount a PersistentVolumeClaim there",
        ));
    }
    if space.kept == Kept::InMemory {
        return Some(Finding::warning(
            Topic::Disk,
            format!("`{path}` is kept in memory: it goes with the pod"),
            "mount a PersistentVolumeClaim there",
        ));
    }
    let free = space.free_bytes / MIB;
    (space.free_bytes < FREE_BYTES_MIN).then(|| {
        Finding::warning(
            Topic::Disk,
            format!("the volume of `{path}` has {free} MiB left: etcd ends when it cannot write its WAL"),
            "enlarge the claim, compact and defragment etcd, or delete an archive",
        )
    })
}

fn contents(facts: &Facts<'_>) -> Vec<Finding> {
    let disk = &facts.seen.disk;
    let topic = Topic::Disk;
    let replaced = "nothing: its member is replaced where a leader answers; else bring the other pods back first";
    let mut findings = vec![match &disk.wal {
        Wal::Present(wal) => match &wal.missing {
            Some(missing) => Finding::warning(topic, missing, replaced),
            None => Finding::ok(
                topic,
                format!(
                    "a WAL of the member {} of the cluster {}, term {}, index {}",
                    wal.member_id, wal.cluster_id, wal.term, wal.index
                ),
            ),
        },
        Wal::Unreadable { path, reason } => {
            Finding::warning(topic, format!("the WAL segment `{}` cannot be read: {reason}", path.display()), replaced)
        }
        Wal::Absent if disk.db => Finding::warning(topic, "there is a database, and no WAL", replaced),
        Wal::Absent => Finding::ok(topic, "no data"),
    }];
    if disk.pairing == Pairing::Broken {
        let what = "data and WAL are not of one another: one of the two volumes was lost or exchanged";
        findings.push(Finding::warning(topic, what, "give both volumes of this pod back, if they still exist"));
    }
    match &disk.journal {
        JournalFile::Torn(reason) => findings.push(Finding::warning(
            topic,
            format!("the journal cannot be read ({reason}): without a WAL, this pod never founds a cluster"),
            "nothing where a leader answers; else bring the other pods back",
        )),
        JournalFile::Valid(journal) if journal.unconfirmed_starts > 1 => findings.push(Finding::warning(
            topic,
            format!("etcd was started {} times without a leader that listed it", journal.unconfirmed_starts),
            "look at etcd's log and at the other members",
        )),
        JournalFile::Valid(_) | JournalFile::Absent => {}
    }
    findings
}
